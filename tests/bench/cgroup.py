"""A real memory limit around a program: cgroup v1 or v2, made and removed here. Needs root."""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

SYSTEM = Path("/sys/fs/cgroup")


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


class MemoryCgroup:
    """A fresh cgroup with a limit; removed at the end.

    Args:
        limit_mb: MiB, swap excluded.

    Raises:
        NoCgroup: not root, or no memory controller.
    """

    def __init__(self, limit_mb: int) -> None:
        self.version = 1 if (SYSTEM / "memory" / "memory.limit_in_bytes").is_file() else 2
        parent = SYSTEM / "memory" if self.version == 1 else SYSTEM
        self.folder = parent / f"ocrfleet-bench-{os.getpid()}-{limit_mb}"
        try:
            if self.version == 2:
                (parent / "cgroup.subtree_control").write_text("+memory")
            self.folder.mkdir(exist_ok=True)
            name = "memory.limit_in_bytes" if self.version == 1 else "memory.max"
            (self.folder / name).write_text(str(limit_mb << 20))
        except OSError as error:
            raise NoCgroup(
                f"cannot limit memory below {parent} ({error.strerror}); run this benchmark as root"
            ) from error
        swap, value = ("memory.swappiness", "0") if self.version == 1 else ("memory.swap.max", "0")
        with contextlib.suppress(OSError):  # kernels without swap accounting
            (self.folder / swap).write_text(value)

    def __enter__(self) -> MemoryCgroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.folder.rmdir()

    def run(self, command: list[str], environment: dict[str, str]) -> Ended:
        """Runs a program inside and waits for it."""
        before = self._oom_kills()
        procs = self.folder / "cgroup.procs"
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            preexec_fn=lambda: procs.write_text("0") and None,
        )
        assert process.stdout
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return Ended(process.returncode, usage.ru_maxrss / 1024, self._oom_kills() - before, output)

    def _oom_kills(self) -> int:
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        for line in (self.folder / name).read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return 0
