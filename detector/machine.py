"""What this machine gives a process: cores, memory, cgroup limits."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

_MB = 2**20


@dataclass(frozen=True, slots=True)
class Machine:
    """What this process may use.

    Attributes:
        cores: CPU cores, fractions possible (a container's quota).
        memory_mb: memory, MiB.
        limited_by: what sets the memory: "RAM" or "cgroup".
    """

    cores: float
    memory_mb: int
    limited_by: str


def read_machine(proc: Path = Path("/proc"), sys_cgroup: Path = Path("/sys/fs/cgroup")) -> Machine:
    """Cores and memory of this process: the machine's, or its cgroup's (v1 or v2) where that is less.

    Args:
        proc: where procfs is.
        sys_cgroup: where the cgroup file systems are.
    """
    cores = float(_affinity())
    memory_mb, limited_by = _ram_mb(proc), "RAM"
    quota, limit = _cgroup_limits(proc, sys_cgroup)
    if limit is not None and limit // _MB < memory_mb:
        memory_mb, limited_by = int(limit // _MB), "cgroup"
    return Machine(min(cores, quota) if quota else cores, memory_mb, limited_by)


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def available_mb(machine: Machine, proc: Path = Path("/proc")) -> int:
    """Memory, MiB, that a process may take now without others being killed for it, free swap with it.

    Args:
        machine: of this process; where nothing is known of what others hold, all of it.
        proc: where procfs is.
    """
    free = [_meminfo_mb(proc, field) for field in ("MemAvailable:", "SwapFree:")]
    return min(machine.memory_mb, free[0] + (free[1] or 0)) if free[0] is not None else machine.memory_mb


def _meminfo_mb(proc: Path, field: str) -> int | None:
    try:
        for line in (proc / "meminfo").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) // 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _ram_mb(proc: Path) -> int:
    known = _meminfo_mb(proc, "MemTotal:")
    if known is not None:
        return known
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MB
    except (ValueError, OSError):
        return 4096  # unknown: neither tiny nor generous


def _cgroup_limits(proc: Path, sys_cgroup: Path) -> tuple[float | None, int | None]:
    """(cores, bytes) that cgroups allow; None where they set no limit."""
    cores: list[float] = []
    memory: list[int] = []
    for controllers, path in _memberships(proc):
        if controllers == "":  # v2: one tree; a limit anywhere above counts too
            for folder in _upwards(sys_cgroup, path):
                cores += _quota(_read(folder / "cpu.max").split())
                memory += _bytes(_read(folder / "memory.max"))
                memory += _bytes(_read(folder / "memory.high"))  # nobody is killed there, but slowed down to nothing
        for controller in controllers.split(","):  # v1: a tree per controller
            if controller == "memory":
                for folder in _upwards(sys_cgroup / "memory", path):
                    memory += _bytes(_read(folder / "memory.limit_in_bytes"))
            elif controller == "cpu":
                for tree in (sys_cgroup / "cpu", sys_cgroup / controllers):
                    for folder in _upwards(tree, path):
                        cores += _quota([_read(folder / f"cpu.cfs_{part}_us") for part in ("quota", "period")])
    return min(cores, default=None), min(memory, default=None)


def cgroup_file(
    v1: str,
    v2: str,
    controller: str = "memory",
    *,
    proc: Path = Path("/proc"),
    sys_cgroup: Path = Path("/sys/fs/cgroup"),
) -> Path | None:
    """A file of this process's own cgroup, such as the one that counts what the OOM killer did.

    Inside a container the path in /proc may not exist: the root of the tree then is our cgroup.

    Args:
        v1: its name in the controller's tree of cgroups v1, such as "memory.oom_control".
        v2: its name in cgroups v2, such as "memory.events".
        controller: of v1.
        proc: where procfs is.
        sys_cgroup: where the cgroup file systems are.

    Returns:
        The file, or None: no cgroups, or the file is not there.
    """
    for controllers, path in _memberships(proc):
        if controllers == "":
            tree, name = sys_cgroup, v2
        elif controller in controllers.split(","):
            tree, name = sys_cgroup / controller, v1
        else:
            continue
        for folder in (_upwards(tree, path)[0], tree):
            if (folder / name).is_file():
                return folder / name
    return None


def _memberships(proc: Path) -> list[tuple[str, str]]:
    """(controllers, path) of each line of /proc/self/cgroup, see cgroups(7); "" = v2."""
    lines = (line.split(":", 2) for line in _read(proc / "self" / "cgroup").splitlines())
    return [(fields[1], fields[2]) for fields in lines if len(fields) == 3]


def _upwards(root: Path, path: str) -> list[Path]:
    """root/a/b, root/a, root. Inside a container the outer path may not exist; the root then shows its own limits."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [root.joinpath(*parts[:count]) for count in range(len(parts), -1, -1)]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _bytes(text: str) -> list[int]:
    # v2 writes "max", v1 a number near 2^63 for "no limit".
    return [int(text)] if text.isdigit() and 0 < int(text) < 2**60 else []


def _quota(fields: list[str]) -> list[float]:
    """["150000", "100000"] -> [1.5]; "max" or -1 = no limit."""
    if len(fields) != 2 or not all(field.isdigit() for field in fields) or int(fields[1]) == 0:
        return []
    return [max(0.1, math.floor(int(fields[0]) / int(fields[1]) * 100) / 100)]
