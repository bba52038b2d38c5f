"""This process: its peak memory, its malloc, its priority, and how it dies."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from detector import memory

_CLEAR_PEAK = b"5"  # proc(5), /proc/pid/clear_refs: resets VmHWM


def celery_command(*arguments: str) -> list[str]:
    """The command line of ``celery -A worker.app ARGUMENTS`` that imports nothing from the current folder."""
    return [sys.executable, "-P", "-m", "worker.celery_main", *arguments]


def reset_peak_rss() -> None:
    """Measure ``detector.memory.peak_rss_mb`` from now on; where /proc is read-only the old peak stays."""
    try:
        with Path("/proc/self/clear_refs").open("wb") as handle:
            handle.write(_CLEAR_PEAK)
    except OSError:
        pass


def configure_malloc() -> None:
    """Keep glibc from holding memory of past images: two arenas, and free blocks go back at once."""
    memory.configure_malloc(arenas=2)


def lower_priority(nice: int) -> None:
    """Let everything else on the machine go first: CPU niceness now, and idle I/O where psutil can set it."""
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


_PR_SET_PDEATHSIG = 1  # prctl(2)


def set_parent_death_signal(with_signal: signal.Signals = signal.SIGTERM) -> None:
    """In a child process: be sent this signal when the parent dies, however it dies (prctl(2); elsewhere no-op)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, with_signal)


# glibc reads it when a program starts, so it is set before exec. Two arenas keep a process with many short-lived
# threads small.
MALLOC_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"}
