"""A whole job whose worker (or everything) sits inside a memory cgroup: who died, who was refused, what did it take?"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from producer.local.server import EmbeddedServer
from tests.bench.cgroup import MemoryCgroup, Usage

ROOT = Path(__file__).parents[2]
Record = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        records: of all pages.
        lost_children: how often Celery says that a child was lost.
        usage: what the processes in the cgroup used.
        seconds: from the start of the worker to the last record.
        log: what worker (and producer) wrote.
        exit_code: of the producer that waited for the job.
    """

    records: list[Record]
    lost_children: int
    usage: Usage
    seconds: float
    log: str
    exit_code: int

    @property
    def ok(self) -> list[Record]:
        return [record for record in self.records if record["status"] == "ok"]

    @property
    def failures(self) -> Counter[str]:
        """Error type -> how many."""
        return Counter(record["error"]["type"] for record in self.records if record["error"])

    @property
    def retried(self) -> list[Record]:
        """Pages that needed more than one try: something died over them."""
        return [record for record in self.records if record["attempts"] > 1]


def environment_of(scratch: Path, **more: str) -> dict[str, str]:
    """A user's environment: the profile is chosen by the program, from the cgroup's limit."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OCRFLEET_")}
    return {
        **clean,
        "PYTHONPATH": str(ROOT),
        "OCRFLEET_SPOOL_DIR": str(scratch / "spool"),
        "OCRFLEET_NICE": "0",  # times are compared; niceness has nothing to do with memory
        "XDG_STATE_HOME": str(scratch / "state"),
        **more,
    }


def run_worker(folder: Path, limit_mb: int, scratch: Path, **more: str) -> Outcome:
    """Celery's main process and its child inside; broker and producer outside. ``more`` goes into the environment.

    Raises:
        NoCgroup: none can be made here.
    """
    log = scratch / "worker.log"
    server = EmbeddedServer(scratch / "server")
    forget_cached(folder)
    with MemoryCgroup(limit_mb) as cgroup:
        server.start()
        try:
            environment = environment_of(scratch, OCRFLEET_REDIS_URL=server.url, **more)
            started = time.perf_counter()
            with process_of("worker.cli", "start", environment=environment, log=log, cgroup=cgroup):
                arguments = ("--job", "small", "--quiet", "--follow-links")
                fed = _run("producer.cli", "enqueue", folder, *arguments, environment=environment, log=log)
                collect = ("small", "-o", scratch / "out", "--follow", "--quiet")
                code = fed or _run("producer.cli", "collect", *collect, environment=environment, log=log)
                seconds = time.perf_counter() - started
        finally:
            server.stop()
        return _outcome(scratch / "out", log, cgroup, seconds, code)


def run_all_in_one(folder: Path, limit_mb: int, scratch: Path) -> Outcome:
    """``ocr-producer run`` inside: server, producer, Celery's main process and its child.

    Raises:
        NoCgroup: none can be made here.
    """
    log, out = scratch / "run.log", scratch / "out"
    forget_cached(folder)
    with MemoryCgroup(limit_mb) as cgroup:
        started = time.perf_counter()
        arguments = ("run", folder, "-o", out, "--quiet", "--no-report", "--follow-links")
        code = _run("producer.cli", *arguments, environment=environment_of(scratch), log=log, cgroup=cgroup)
        seconds = time.perf_counter() - started
        with log.open("ab") as together:
            for worker_log in out.rglob("worker*.log"):
                together.write(worker_log.read_bytes())
        return _outcome(out, log, cgroup, seconds, code)


def forget_cached(folder: Path) -> None:
    """Drop our libraries and these pictures from the page cache: a small machine has read them itself, and pages count
    where they were first read. What other running programs have mapped stays, and makes the numbers a little too good.
    """
    libraries = Path(sysconfig.get_path("platlib")).rglob("*.so*")
    for path in itertools.chain(libraries, folder.iterdir()):
        with contextlib.suppress(OSError), path.open("rb") as file:
            os.fsync(file.fileno())  # what was just written cannot be dropped before it is on the disk
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class LineCount:
    """Lines of a growing file, read once."""

    def __init__(self, path: Path) -> None:
        self._path, self._at, self._count = path, 0, 0

    def __call__(self) -> int:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._at)
                fresh = file.read()
            self._at += len(fresh)
            self._count += fresh.count(b"\n")
        return self._count


@contextlib.contextmanager
def process_of(
    module: str, *arguments: object, environment: dict[str, str], log: Path, cgroup: MemoryCgroup | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """One of our commands as a process of its own, inside the cgroup if there is one; stopped in order at the end."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=cgroup.join if cgroup else None,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _run(
    module: str, *arguments: object, environment: dict[str, str], log: Path, cgroup: MemoryCgroup | None = None
) -> int:
    with process_of(module, *arguments, environment=environment, log=log, cgroup=cgroup) as process:
        return process.wait()


def _outcome(out: Path, log: Path, cgroup: MemoryCgroup, seconds: float, exit_code: int) -> Outcome:
    results = out / "results.jsonl"
    records = [msgspec.json.decode(line) for line in results.read_bytes().splitlines()] if results.exists() else []
    text = log.read_text(errors="replace")
    # Celery writes "Process 'ForkPoolWorker-1' pid:7 exited with 'signal 9 (SIGKILL)'"; a recycled child exits with 0.
    lost = text.count("exited with 'signal")
    return Outcome(records, lost, cgroup.usage(), seconds, text, exit_code)
