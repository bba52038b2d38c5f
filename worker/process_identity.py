"""Which process on which boot of which machine: what a successor must know to say that its predecessor is gone.

``BOOT:NAMESPACE:PID:STARTED``: the kernel's boot id, its number of the namespace of process ids (a container's own
processes have ids of their own), the id, and when the process started, in ticks since the boot, since ids are used
again.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

PROC = Path("/proc")


def identity(pid: int | None = None) -> str:
    """The identity of a process of this machine (this one by default), "" where the system does not tell."""
    try:
        return f"{_place()}:{_started(os.getpid() if pid is None else pid)}"
    except (OSError, ValueError, IndexError):
        return ""


def is_gone(other: str) -> bool:
    """Whether this process surely ran here, and runs no more. Of other machines and containers nothing is known."""
    place, _, pid = other.rpartition(":")[0].rpartition(":")
    try:
        if not place or place != _place():
            return False
        os.kill(int(pid), 0)  # /proc may hide other users' processes
        return f"{place}:{_started(int(pid))}" != other
    except ProcessLookupError:
        return True
    except (OSError, ValueError, IndexError, OverflowError):  # whoever may write to Redis wrote it
        return False


def running_processes() -> list[int]:
    """Ids of the processes that this one may see."""
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def is_main(pid: int) -> bool:
    """Whether this is a running process of this machine that is a worker's main process, and not one of its children.

    By its command line: a child has its parent's, and whoever may write to Redis can name any process as a worker.
    """
    try:
        said = _command_line(pid)
        parent = int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        return _is_celery(said) and b"ForkPoolWorker" not in said and _command_line(parent) != said
    except (OSError, ValueError, IndexError):
        return False


def _is_celery(said: bytes) -> bool:
    """Whether a command line is Celery's, or ours in its place; with setproctitle it is one word, ``[celeryd: ...``."""
    names = [word.rpartition(b"/")[2] for word in said.split(b"\0")]
    return said.startswith(b"[celeryd") or not {b"celery", b"worker.celery_main"}.isdisjoint(names)


def _command_line(pid: int) -> bytes:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:  # pid 0: the parent is outside the container
        return b""


@cache
def _place() -> str:
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    namespace = str((PROC / "self/ns/pid").readlink()).strip("pid:[]")
    return f"{boot}:{namespace}"


def _started(pid: int) -> str:
    """``PID:STARTED``; a zombie is no more."""
    # The second field is the program's name, in parentheses, and may hold anything.
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    if fields[0] in "ZX":
        raise ProcessLookupError(pid)
    return f"{pid}:{fields[19]}"
