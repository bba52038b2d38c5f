"""Work on strangers' files that goes on behind one that takes the process down.

A decoder in C or C++ may abort on a damaged file, or where it finds no memory: no exception comes of that. So the work
is done in a child process; if that is killed by such a fault, another goes on behind what it was at.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

NOTHING, COUNTING, DETECTING, OVERLAY = range(4)
"""What is done with a file that may end the process."""

FAULTS = (
    *(signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP),
    signal.SIGKILL,  # of the kernel's, for want of memory
)

_PR_SET_PDEATHSIG = 1  # prctl(2)
_TWICE_S = 1.0


class Place(ctypes.Structure):
    """Where the work is, in memory that all of its processes share.

    Attributes:
        file, page: of the files, and in this one; from 0.
        index: pages done.
        failed: of these.
        doing: what is done there now.
    """

    file: int
    page: int
    index: int
    failed: int
    doing: int
    _fields_ = tuple((name, ctypes.c_int64) for name in ("file", "page", "index", "failed", "doing"))

    @contextmanager
    def __call__(self, doing: int) -> Iterator[None]:
        """While this is done."""
        self.doing = doing
        try:
            yield
        finally:
            self.doing = NOTHING


def in_children(work: Callable[[Place, int], int]) -> int:
    """Does it in a child process, and goes on in another behind what ended that; in this one if no program is run.

    The child comes back from here, too: it is the program from then on, and this one waits for it. Signals reach it.

    Args:
        work: from a place on; with the signal that ended the child before it there, or 0. Its value is the exit code.
    """
    place = Place.from_buffer(mmap.mmap(-1, mmap.PAGESIZE))
    died = 0
    while _is_program():
        parent, child = os.getpid(), os.fork()
        if not child:
            _be_a_child(parent)
            break
        code = _code_of(child)
        if code >= 0:
            return code
        died = -code
        if died not in FAULTS or place.doing == NOTHING:
            _end_likewise(died)
    return work(place, died)


def _is_program() -> bool:
    """Whether what is printed goes where it went at the start: not so where a test, or another program, calls this."""
    try:
        return (sys.stdout.fileno(), sys.stderr.fileno(), threading.active_count()) == (1, 2, 1)
    except (OSError, ValueError, AttributeError):
        return False


def _be_a_child(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before that was asked for
        os._exit(128 + signal.SIGTERM)
    last = -math.inf

    def interrupt(number: int, frame: Any) -> None:
        nonlocal last
        # From a terminal it comes twice: by itself, and handed on. Later ones count: Python loses what callbacks raise.
        if time.monotonic() - last > _TWICE_S:
            last = time.monotonic()
            raise KeyboardInterrupt

    _on_interrupt(interrupt)


def _code_of(child: int) -> int:
    def hand_on(number: int, frame: Any) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    before = _on_interrupt(hand_on)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        _on_interrupt(before)


def _on_interrupt(handler: Any) -> Any:
    """Sets what is called, and returns what was, unless who started the program had it ignored (`&` in a script)."""
    now = signal.getsignal(signal.SIGINT)
    return now if now == signal.SIG_IGN else signal.signal(signal.SIGINT, handler)


def _end_likewise(died: int) -> None:
    if died not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(died, signal.SIG_DFL)
    os.kill(os.getpid(), died)
