"""Ctrl-C while C++ is at work that calls Python: it waits, for a KeyboardInterrupt in there aborts the process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module


@contextmanager
def interrupt_later() -> Iterator[None]:
    """Ctrl-C waits for the end of the block."""
    # The main thread alone may set handlers, and gets them. One that is not Python's, or none any more since the
    # interpreter ends, could not be set again.
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    interrupted = False

    def note(number: int, frame: object) -> None:
        nonlocal interrupted
        interrupted = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted:
        raise KeyboardInterrupt


def load_library(name: str) -> None:
    """Import a large library, which takes torch seconds.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    with interrupt_later():
        import_module(name)
