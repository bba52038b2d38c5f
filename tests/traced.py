"""What Python code holds and takes at its most, in bytes, without what runs beside it in the tests' process."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

TRIES = 3


def assert_few_bytes(action: Callable[[int], object], *, peak: int, held: int | None = None) -> None:
    """Try the action, which is told the try's number, until it stays below these bytes: one of three tries must.

    tracemalloc counts the whole process: a first import, and a thread that another test left, are no memory of ours.

    Args:
        action: what it returns is held while that is measured.
        peak: bytes it may take at its most.
        held: bytes it may hold when it is done; None: as many as that.

    Raises:
        AssertionError: with what each try held, and its peak.
    """
    found: list[tuple[int, int]] = []
    for number in range(TRIES):
        tracemalloc.start()
        try:
            kept = action(number)
            found.append(tracemalloc.get_traced_memory())
        finally:
            tracemalloc.stop()
        del kept
        if found[-1][0] < (held or peak) and found[-1][1] < peak:
            return
    raise AssertionError(found)
