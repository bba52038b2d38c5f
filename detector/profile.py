"""How much of this machine to use: low, standard or accurate, or chosen from its cores, memory and cgroup limits.

Standard library only: the producer and the Celery main process read it too.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

PARENT_MB = 48
"""What Celery's main process holds for itself beside what it shares with its child (25), sockets, page tables (10)."""

_MB = 2**20


@dataclass(frozen=True, slots=True)
class Profile:
    """Limits of one worker process.

    Attributes:
        name: low, standard or accurate.
        limit_side: longest side shown to the network, pixels.
        threads: of one inference. More workers use more cores better than more threads do.
        runtime: what runs the network ("auto" = what `ocr-detector tune` found, else ONNX Runtime).
        max_pixels: pages that claim more pixels are refused before decoding.
        memory_limit_mb: what one worker process may use, MiB; None = no limit.
        nice: scheduling priority, 0 (normal) to 19 (only what others leave).
        max_tasks_per_child: images after which a worker process is replaced by a fresh one.
        tiled: pages are run in overlapping tiles (`tiling.TILE`), so that a large limit_side costs time, not memory.
    """

    name: str
    limit_side: int
    threads: int
    runtime: str
    max_pixels: int
    memory_limit_mb: int | None
    nice: int
    max_tasks_per_child: int
    tiled: bool = False


PROFILES = {
    # 640: the size of the measured 80 ms and 164 MB an image; documents lose a few points of hmean at it.
    "low": Profile("low", 640, 1, "auto", 200_000_000, 256, 19, 200),
    # 960: dense documents are nearly as good as at full size, 2.25 times the work of 640.
    "standard": Profile("standard", 960, 1, "auto", 200_000_000, 512, 0, 500),
    # 1440: the size at which small print on receipts and forms is found, and 6 point print on an A4 page.
    "accurate": Profile("accurate", 1440, 1, "auto", 200_000_000, 1024, 0, 500, tiled=True),
}


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


def choose_profile(name: str = "auto", machine: Machine | None = None) -> tuple[Profile, str]:
    """The profile of this name, fitted to the machine, and one line that says why.

    "auto" takes low on machines with less than 2 GiB or less than 2 cores and standard elsewhere; accurate takes four
    to seven times as long as low and is only used when asked for. A profile's memory limit is lowered to what the
    machine has.

    Args:
        name: auto, low, standard or accurate.
        machine: instead of the one this process runs on.

    Raises:
        ValueError: unknown name.
    """
    if name != "auto" and name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}; choose auto, {', '.join(PROFILES)}")
    machine = machine or read_machine()
    has = f"{machine.cores:g} cores, {machine.memory_mb} MB ({machine.limited_by})"
    if name != "auto":
        profile, reason = PROFILES[name], f"profile {name}: asked for; {has}"
    elif machine.memory_mb < 2000 or machine.cores < 2:
        profile, reason = PROFILES["low"], f"profile low: {has}, less than 2 cores or 2 GB"
    else:
        profile, reason = PROFILES["standard"], f"profile standard: {has}"
    share = _worker_share(machine)
    if profile.memory_limit_mb is not None and share < profile.memory_limit_mb:
        profile = replace(profile, memory_limit_mb=share)
        reason += f"; memory limit lowered to {share} MB"
    return profile, reason


def _worker_share(machine: Machine) -> int:
    """MiB for one worker process; the rest is for its parent, and without a cgroup for the system."""
    if machine.limited_by == "cgroup":
        return max(machine.memory_mb * 3 // 4, machine.memory_mb - PARENT_MB)
    return machine.memory_mb * 3 // 4


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


def _ram_mb(proc: Path) -> int:
    try:
        for line in (proc / "meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) // 1024
    except (OSError, ValueError, IndexError):
        pass
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
