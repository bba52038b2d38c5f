"""Whether the kernel's OOM killer struck in our cgroup."""

from __future__ import annotations

from pathlib import Path


class OomWitness:
    """Tells whether the kernel's OOM killer struck in our cgroup since the last look.

    Reads ``oom_kill`` of cgroup v2's memory.events or v1's memory.oom_control (kernel, admin-guide/cgroup-v2).
    """

    def __init__(self) -> None:
        self._file = _oom_file()
        self._seen = self._count()

    def _count(self) -> int:
        if self._file is None:
            return 0
        try:
            for line in self._file.read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
        except (OSError, ValueError):
            pass
        return 0

    def killed_since_last_look(self) -> bool:
        count = self._count()
        struck, self._seen = count > self._seen, count
        return struck


def _oom_file(proc: Path = Path("/proc"), sys_cgroup: Path = Path("/sys/fs/cgroup")) -> Path | None:
    """Where the kernel counts what it killed in our cgroup; inside a container its root is our cgroup."""
    try:
        memberships = [line.split(":", 2) for line in (proc / "self/cgroup").read_text().splitlines()]
    except OSError:
        return None
    for _, controllers, path in memberships:
        if "memory" in controllers.split(","):
            tree, name = sys_cgroup / "memory", "memory.oom_control"
        elif controllers == "":
            tree, name = sys_cgroup, "memory.events"
        else:
            continue
        for candidate in (tree / path.lstrip("/") / name, tree / name):
            if candidate.is_file():
                return candidate
    return None
