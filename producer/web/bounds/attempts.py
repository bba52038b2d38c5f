"""How often the service died while it did something: what kills it twice is not taken up a third time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from producer.errors import ProducerError

MOST_ATTEMPTS = 2


class LostTwiceError(ProducerError):
    """The service did not survive this, twice. The message says what to do."""


@contextmanager
def counted_attempt(mark: Path, what: str) -> Iterator[None]:
    """Count an attempt in a file, a byte each, and take it back however it ends: only a killed process leaves it.

    Args:
        mark: the file; its folder exists.
        what: was done each time, for people.

    Raises:
        LostTwiceError: two attempts were never ended.
    """
    try:
        before = mark.stat().st_size
    except FileNotFoundError:
        before = 0
    if before >= MOST_ATTEMPTS:
        raise LostTwiceError(
            f"the service was killed {before} times while {what}; send fewer files at a time, or others"
        )
    with mark.open("ab", buffering=0) as stream:
        stream.write(b".")
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)
