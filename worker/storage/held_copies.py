"""Copies in the spool that are gone with the process that made them, however it ends.

A child that is killed (the time limit, the kernel for want of memory, abort() in a library) removes nothing. Eleven
files that were left so filled a spool of 128 MB, and every page after them failed for a day. So a copy is locked
(flock) for as long as its process has it open, and the kernel lets go of that lock when the process is gone. That tells
who lives where no process number does: in another container that has the same spool, after a restart of the worker.
It tells so to this machine alone: a spool may lie in a home folder that machines share, and locks there are often each
machine's own.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from worker.storage.spool import SPOOL_PREFIX, is_our_spool, machine_faults

HELD = f"{SPOOL_PREFIX}held-"
"""Begins the names of copies that are locked."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@cache
def held_prefix() -> str:
    """Of copies that this kernel can tell about: of all containers of a machine, until it boots. "" without Linux.

    Other copies go by their age: of other machines, and of versions before, and where nothing can be locked.
    """
    try:
        return f"{HELD}{BOOT_ID.read_text()[:8]}-"
    except OSError:
        return ""


@contextmanager
def held_copy(spool: Path, suffix: str) -> Iterator[Path]:
    """An empty file in the spool, to be written in place; removed on exit, or by whoever finds its process gone.

    Args:
        spool: a folder of this user's alone.
        suffix: of its name, with the dot.

    Raises:
        MachineFault: it cannot be made.
    """
    with machine_faults(spool):
        descriptor, name = tempfile.mkstemp(prefix=SPOOL_PREFIX, suffix=suffix, dir=spool)
    copy = Path(name)
    try:
        # First the lock, then the name that says so: whoever looks in between leaves it alone.
        if held_prefix() and _lock(descriptor):
            held = copy.with_name(copy.name.replace(SPOOL_PREFIX, held_prefix(), 1))
            with machine_faults(spool):
                copy = copy.rename(held)
        yield copy
    finally:
        copy.unlink(missing_ok=True)
        os.close(descriptor)


def is_held(name: str) -> bool:
    """Whether a copy of this name is locked while its process lives."""
    return bool(held_prefix()) and name.startswith(held_prefix())


def is_left(copy: Path) -> bool:
    """Whether the process that held this copy is gone. False where that cannot be told."""
    try:
        # For writing: a network folder's locks ask for it.
        descriptor = os.open(copy, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _lock(descriptor)
    finally:
        os.close(descriptor)


def remove_left(spool: Path) -> int:
    """Remove the copies of processes that are gone, of this machine's workers and others'. Returns the bytes freed."""
    if not held_prefix() or not is_our_spool(spool):
        return 0
    freed = 0
    with suppress(OSError), os.scandir(spool) as entries:  # one at a time: there may be a million other files
        for entry in entries:
            if is_held(entry.name):
                with suppress(OSError):  # another worker was quicker
                    size = entry.stat(follow_symlinks=False).st_size
                    copy = Path(entry.path)
                    if is_left(copy):
                        copy.unlink()
                        freed += size
    return freed


def _lock(descriptor: int) -> bool:
    """Take the lock if nobody has it. False also where the file system knows none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
