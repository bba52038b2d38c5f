"""This process: its peak RSS begun anew, its priority, an OOM kill told from a crash, the degradation ladder."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from detector import memory
from detector.images.budget import SMALLEST_LIMIT_SIDE

# After a lost process or no memory: same page again at a smaller size, then smaller (DESIGN 4, degradation ladder).
LADDER = (1.0, 0.7, 0.5)
_CLEAR_PEAK = b"5"  # proc(5), /proc/pid/clear_refs: resets VmHWM


def reset_peak_rss() -> None:
    """Let ``detector.memory.peak_rss_mb`` begin anew; where /proc is read-only the old peak silently stays."""
    try:
        with Path("/proc/self/clear_refs").open("wb") as handle:
            handle.write(_CLEAR_PEAK)
    except OSError:
        pass


def tame_malloc() -> None:
    """Keep glibc from holding memory of past images: two arenas, and free blocks go back at once."""
    memory.tame_malloc(arenas=2)


def degraded_limit_side(limit_side: int, losses: int) -> int:
    """The limit for the next try after ``losses`` lost ones, pixels, a multiple of 32.

    Args:
        limit_side: limit of an undisturbed run, pixels.
        losses: tries that ended in a lost process, no memory or no time.
    """
    if losses == 0:
        return limit_side
    factor = LADDER[min(losses, len(LADDER) - 1)]
    return min(limit_side, max(SMALLEST_LIMIT_SIDE, int(limit_side * factor) // 32 * 32))


def lower_priority(nice: int) -> None:
    """Make room for everything else on the machine: CPU niceness now, and idle I/O where psutil can set it."""
    current = os.nice(0)
    if nice <= current:
        return
    os.nice(nice - current)
    if nice == 19:
        try:
            import psutil

            psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)
        except (ImportError, AttributeError, OSError):
            pass


def be_first_to_die() -> None:
    """If the kernel must kill for memory, this process goes, not Celery's main process or the server beside it.

    The child shares most of the main process's memory, so both look the same size to the kernel (proc(5),
    oom_score_adj; raising it needs no rights). A lost child costs one try of one page, a lost main process the worker.
    """
    adjustment = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        adjustment.write_text(str(min(1000, int(adjustment.read_text()) + 500)))


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
