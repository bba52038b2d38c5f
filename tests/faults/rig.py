"""A small fleet of real processes around a :class:`FaultyServer`: workers, commands, jobs, what became of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.proxy import Proxy
from tests.faults.server import FaultyServer
from tests.pictures import write_images
from tests.processes import WorkerProcess, command, wait_until

JOB = "faults"
URL = "OCRFLEET_REDIS_URL"


class Impossible(Exception):
    """This kind of fault cannot be made here; one line that says what it needs."""


@dataclass
class Slot:
    """What one of the workers has that the others have not; its successor has it too.

    Attributes:
        environment: over the rig's.
        preexec: called in the process before the program starts (it joins a cgroup).
    """

    environment: dict[str, str] = field(default_factory=dict)
    preexec: Callable[[], None] | None = None


class SlotWorker(WorkerProcess):
    """A worker that knows its slot."""

    slot: Slot


class Rig:
    """Everything of one trial, below one folder."""

    def __init__(self, folder: Path, server: FaultyServer, **extra: str) -> None:
        self.folder, self.server = folder, server
        self.out = folder / "out"
        self.workers: list[SlotWorker] = []
        self._started = 0
        self._proxy: Proxy | None = None
        self.closing = ExitStack()
        self.commands: list[subprocess.Popen[str]] = []
        self.environment = {
            **os.environ,
            URL: server.url,
            "OCRFLEET_SPOOL_DIR": str(folder / "spool"),
            "OCRFLEET_PROFILE": "low",
            "OCRFLEET_NICE": "0",
            "XDG_STATE_HOME": str(folder / "state"),
            **extra,
        }

    def environment_of(self, role: str, **extra: str) -> dict[str, str]:
        """Of a process of the fleet that has this role."""
        environment = {**self.environment, **extra}
        return environment | {URL: self.server.url_of(role, environment[URL])}

    def images(self, count: int) -> Path:
        """A folder of so many small images."""
        write_images(self.folder / "in", count)
        return self.folder / "in"

    def start_worker(self, *arguments: str, slot: Slot | None = None, cwd: Path | None = None) -> SlotWorker:
        """One more worker."""
        slot = slot or Slot()
        number, self._started = self._started, self._started + 1
        environment = self.environment_of("worker", **slot.environment)
        log = self.folder / f"worker-{number}.log"
        worker = SlotWorker(environment, log, "-n", f"w{number}@%h", *arguments, cwd=cwd, preexec=slot.preexec)
        worker.slot = slot
        self.workers.append(worker)
        return worker

    @property
    def proxy(self) -> Proxy:
        """The network between the fleet and the server; asked for before anything starts."""
        if self._proxy is None:
            self._proxy = Proxy(self.server.port)
            self.closing.callback(self._proxy.close)
            self.environment[URL] = self._proxy.url
        return self._proxy

    def small_disk(self, folder: Path, megabytes: int) -> None:
        """A disk of its own at this folder."""
        if os.geteuid() != 0:
            raise Impossible("needs root to mount a small disk (CI runs it)")
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", folder], check=True)
        self.closing.callback(subprocess.run, ["umount", "--lazy", folder], check=True)

    def command(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """A command to its end."""
        role = {"ocr-producer": "producer", "ocr-worker": "hub"}[str(arguments[0])]
        return command(self.environment_of(role), *arguments)

    def begin(self, *arguments: str | Path, program: str = "producer.cli", **environment: str) -> subprocess.Popen[str]:
        """An ``ocr-producer`` command (or another one of ours), running."""
        process = subprocess.Popen(
            [sys.executable, "-m", program, *map(os.fspath, arguments)],
            env=self.environment_of("producer" if program == "producer.cli" else "hub", **environment),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.commands.append(process)
        return process

    def done(self, job: str = JOB) -> int:
        """Pages that have their record."""
        ok, failed = self.server.client.hmget(f"ocrfleet:job:{job}", "ok", "failed")
        return int(ok or 0) + int(failed or 0)

    def wait_done(self, count: int, *, seconds: float, job: str = JOB) -> None:
        """Wait until so many pages have their record."""
        wait_until(lambda: self.done(job) >= count, seconds=seconds, what=f"{count} pages of {job}")

    def lines(self) -> list[str]:
        """The results on disk; one that is half written is none yet."""
        file = self.out / "results.jsonl"
        return (
            [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
            if file.exists()
            else []
        )

    def indices(self) -> Counter[int]:
        """Page -> records on disk."""
        return Counter(json.loads(line)["index"] for line in self.lines())

    def logs(self) -> str:
        """What the workers said last."""
        return "\n".join(file.read_text(errors="replace")[-3000:] for file in sorted(self.folder.glob("worker-*.log")))

    def close(self) -> None:
        """End what still runs."""
        for process in self.commands:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stderr:
                process.stderr.close()
        for worker in self.workers:
            if self.server.running:
                worker.stop()
            elif worker.alive:
                worker.kill_main()
        self.closing.close()
