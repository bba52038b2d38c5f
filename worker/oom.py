"""Whether the kernel's OOM killer struck in our cgroup."""

from __future__ import annotations

from pathlib import Path

from detector.machine import cgroup_file


class OomWitness:
    """Tells whether the kernel's OOM killer struck in our cgroup since the last look.

    Reads ``oom_kill`` of cgroup v2's memory.events or v1's memory.oom_control (kernel, admin-guide/cgroup-v2).
    """

    def __init__(self) -> None:
        """Counts from now on."""
        self._file = _oom_file()
        self._seen = self._count()

    def _count(self) -> int:
        if self._file is None:
            return 0
        try:
            lines = self._file.read_text().splitlines()
        except OSError:  # the cgroup is gone
            return 0
        counts = [line.removeprefix("oom_kill ") for line in lines if line.startswith("oom_kill ")]
        return int(counts[0]) if counts else 0  # kernels before 4.13 do not count

    def killed_since_last_look(self) -> bool:
        """Whether any process of the cgroup was killed since the last call (the first: since construction)."""
        count = self._count()
        struck, self._seen = count > self._seen, count
        return struck


def _oom_file(proc: Path = Path("/proc"), sys_cgroup: Path = Path("/sys/fs/cgroup")) -> Path | None:
    """Where the kernel counts what it killed in our cgroup."""
    return cgroup_file("memory.oom_control", "memory.events", proc=proc, sys_cgroup=sys_cgroup)
