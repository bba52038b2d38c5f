"""A real memory limit around programs: cgroup v1 or v2, made and removed here. Needs root."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

SYSTEM = Path("/sys/fs/cgroup")
SAMPLE_S = 0.02
_numbers = itertools.count()


class NoCgroup(Exception):
    """Memory cgroups cannot be made here; one line that says why."""


@dataclass(frozen=True)
class Ended:
    """A program that ran inside the limit.

    Attributes:
        returncode: negative when killed by a signal.
        peak_mb: largest resident size of one of its processes, MiB.
        oom_kills: how often the kernel killed in the cgroup during the run.
        output: what it wrote to stdout.
    """

    returncode: int
    peak_mb: float
    oom_kills: int
    output: str


@dataclass(frozen=True)
class Usage:
    """What all processes of a cgroup used together, since it was made.

    Attributes:
        peak_mb: the kernel's own peak, MiB. Files that were read count too (the page cache of libraries and pictures)
            and fill the cgroup up to its limit in time: near the limit says nothing, the kernel drops them at need.
        held_mb: peak of what cannot be dropped, MiB: memory of the processes and files in tmpfs, looked at every 20 ms.
        reclaims: how often a process ran against the limit and the kernel had to drop files first.
        oom_kills: how often the kernel killed.
    """

    peak_mb: float
    held_mb: float
    reclaims: int
    oom_kills: int


class MemoryCgroup:
    """A fresh cgroup with a limit; at the end of the ``with`` block what still runs inside is killed.

    Args:
        limit_mb: MiB, swap excluded.

    Raises:
        NoCgroup: not root, or no memory controller.
    """

    def __init__(self, limit_mb: int) -> None:
        self.limit_mb = limit_mb
        self.version = 1 if (SYSTEM / "memory" / "memory.limit_in_bytes").is_file() else 2
        parent = SYSTEM / "memory" if self.version == 1 else SYSTEM
        self.folder = parent / f"ocrfleet-bench-{os.getpid()}-{next(_numbers)}-{limit_mb}"
        try:
            if self.version == 2:
                (parent / "cgroup.subtree_control").write_text("+memory")
            self.folder.mkdir(exist_ok=True)
            (self.folder / self._name("memory.limit_in_bytes", "memory.max")).write_text(str(limit_mb << 20))
        except OSError as error:
            with contextlib.suppress(OSError):
                self.folder.rmdir()
            raise NoCgroup(f"cannot limit memory below {parent} ({error.strerror}); run this as root") from error
        swap, value = ("memory.swappiness", "0") if self.version == 1 else ("memory.swap.max", "0")
        with contextlib.suppress(OSError):  # kernels without swap accounting
            (self.folder / swap).write_text(value)
        self._held = 0
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> MemoryCgroup:
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._sampler.join()
        for _ in range(100):
            for pid in (self.folder / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            try:
                self.folder.rmdir()
                return
            except OSError:  # a dying process still counts for a moment
                time.sleep(0.05)

    def join(self) -> None:
        """Move the calling process inside; for ``preexec_fn``. What it starts later is inside too."""
        (self.folder / "cgroup.procs").write_text("0")

    def run(self, command: list[str], environment: dict[str, str]) -> Ended:
        """Runs a program inside and waits for it."""
        before = self.usage().oom_kills
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, preexec_fn=self.join)
        assert process.stdout
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return Ended(process.returncode, usage.ru_maxrss / 1024, self.usage().oom_kills - before, output)

    def usage(self) -> Usage:
        """What the processes inside used so far."""
        peak = self._number(self._name("memory.max_usage_in_bytes", "memory.peak"))  # memory.peak: Linux 5.19
        if self.version == 1:
            kills, reclaims = self._fields("memory.oom_control").get("oom_kill", 0), self._number("memory.failcnt")
        else:
            events = self._fields("memory.events")
            kills, reclaims = events.get("oom_kill", 0), events.get("max", 0)
        return Usage(peak / 2**20, self._held / 2**20, reclaims, kills)

    def _sample(self) -> None:
        private = self._name("total_rss", "anon")
        shared = self._name("total_shmem", "shmem")
        while not self._stop.wait(SAMPLE_S):
            fields = self._fields("memory.stat")
            self._held = max(self._held, fields.get(private, 0) + fields.get(shared, 0))

    def _name(self, version1: str, version2: str) -> str:
        return version1 if self.version == 1 else version2

    def _number(self, name: str) -> int:
        try:
            return int((self.folder / name).read_text())
        except (OSError, ValueError):  # an older kernel
            return 0

    def _fields(self, name: str) -> dict[str, int]:
        try:
            lines = (self.folder / name).read_text().splitlines()
        except OSError:
            return {}
        return {key: int(value) for key, _, value in (line.partition(" ") for line in lines) if value.isdigit()}
