"""A small fleet of real processes around a :class:`FaultyServer`: workers, commands, jobs, what became of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.faults.server import FaultyServer
from tests.pictures import write_images
from tests.processes import WorkerProcess, command, wait_until

JOB = "faults"


class Rig:
    """Everything of one trial, below one folder."""

    def __init__(self, folder: Path, server: FaultyServer, **extra: str) -> None:
        self.folder, self.server = folder, server
        self.out = folder / "out"
        self.workers: list[WorkerProcess] = []
        self.commands: list[subprocess.Popen[str]] = []
        self.environment = {
            **os.environ,
            "OCRFLEET_REDIS_URL": server.url,
            "OCRFLEET_SPOOL_DIR": str(folder / "spool"),
            "OCRFLEET_PROFILE": "low",
            "OCRFLEET_NICE": "0",
            "XDG_STATE_HOME": str(folder / "state"),
            **extra,
        }

    def images(self, count: int) -> Path:
        """A folder of so many small images."""
        write_images(self.folder / "in", count)
        return self.folder / "in"

    def start_worker(self, *arguments: str) -> WorkerProcess:
        """One more worker."""
        number = len(self.workers)
        worker = WorkerProcess(
            self.environment, self.folder / f"worker-{number}.log", "-n", f"w{number}@%h", *arguments
        )
        self.workers.append(worker)
        return worker

    def command(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """A command to its end."""
        return command(self.environment, *arguments)

    def begin(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """An ``ocr-producer`` command, running."""
        process = subprocess.Popen(
            [sys.executable, "-m", "producer.cli", *map(os.fspath, arguments)],
            env=self.environment,
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

    def indices(self) -> Counter[int]:
        """Page -> records on disk."""
        lines = (self.out / "results.jsonl").read_text().splitlines() if (self.out / "results.jsonl").exists() else []
        return Counter(json.loads(line)["index"] for line in lines)

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
