"""The way to a member of an archive: how long it took, and whether it goes on. None of it is the page's own time.

A compressed tar, or a solid 7z, can only be read from its beginning. So the first page that a child takes out of the
middle of one costs all that lies before it: at 29 MB/s (bzip2) 2 minutes for 3.5 GB, which is a page's whole time
limit. Celery's main process, which keeps that limit, sees here how much of the time was the way, and grants it, as long
as the archive is read on and lasts (`granted_s`).
"""

from __future__ import annotations

import io
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from detector.images.regular_file import ReadFile

STILL_S = 60.0
"""So long may no byte of the archive come: a minute without progress, as a scan has it."""

S_A_MIB = 1.0
"""And a MiB that was read of it (as it lies on the disk) gives so much, beside the `STILL_S` at the beginning. The
slowest honest way, bzip2 on a third of a core, needs a tenth; a few KB of .xz may unpack for hours."""

MOST_READ_RATIO = 4
"""Times what the disk holds of it: two passes are honest (a page may lie before the one that came last), and file
systems that compress hold less than is read. What is read beyond that is holes."""

WANTED_S = 300.0
"""An archive of which no member was wanted for so long is done."""

_BUFFER = 1 << 16
_BEGUN, _ENDED, _MOVED, _READ = range(4)
_FIELDS = 4
# Shared with the children that are forked from here on; a child's number (billiard's, from 0) is its place. Each value
# is written in one piece.
_shared = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("d")
_PLACES = len(_shared) // _FIELDS


class Way:
    """One process's way to members of archives."""

    def __init__(self) -> None:
        """Not on the way, as child 0."""
        self._at = 0
        self._held_s, self._held_at = 0.0, 0.0

    def holds(self, seconds: float) -> None:
        """So long took all that was read of the archive that is open: a successor would have to read it again."""
        self._held_s, self._held_at = seconds, time.monotonic()

    def held_s(self) -> float:
        """What it would cost a successor to come to where this process is, seconds; 0 where nobody wants that now."""
        return self._held_s if time.monotonic() < self._held_at + WANTED_S else 0.0

    def of_child(self, number: int) -> None:
        """From now on this process is that child of its main process."""
        self._at = number % _PLACES * _FIELDS

    @contextmanager
    def going(self) -> Iterator[None]:
        """On the way, until the block is left."""
        now = time.monotonic()
        for field, value in ((_READ, 0.0), (_MOVED, now), (_ENDED, 0.0), (_BEGUN, now)):
            _shared[self._at + field] = value
        try:
            yield
        finally:
            _shared[self._at + _ENDED] = time.monotonic()

    def watched(self, archive: BinaryIO) -> BinaryIO:
        """The archive, which tells from now on when it is read. Closes the one that is given."""
        with archive:
            return cast("BinaryIO", io.BufferedReader(_Watched(archive, self), _BUFFER))

    def moved(self, count: int) -> None:
        """So many bytes of the archive were read."""
        _shared[self._at + _READ] += count
        _shared[self._at + _MOVED] = time.monotonic()


HERE = Way()
"""Of this process."""


def granted_s(child: int, since: float) -> float:
    """How much of the time since a page began was its way, seconds.

    Bounded by what the archive gives: `STILL_S` after its last byte the page's own time goes on, and so it does where
    the way took `S_A_MIB` for what was read and `STILL_S` more.

    Args:
        child: its number.
        since: when the child began with the page (`time.monotonic`).
    """
    at = child % _PLACES * _FIELDS
    begun, ended, moved, read = (_shared[at + field] for field in (_BEGUN, _ENDED, _MOVED, _READ))
    if begun < since:
        return 0.0
    until = min(ended or time.monotonic(), moved + STILL_S, begun + STILL_S + S_A_MIB * read / (1 << 20))
    return max(0.0, until - begun)


class _Watched(ReadFile):
    """An archive that tells when it is read, as long as that may be what it holds."""

    def __init__(self, archive: BinaryIO, way: Way) -> None:
        super().__init__(os.dup(archive.fileno()))
        self.name = archive.name
        status = os.fstat(self.fileno())
        self._left = MOST_READ_RATIO * (status.st_blocks * 512 or status.st_size)  # some file systems count no blocks
        self._way = way

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]  # what BufferedReader reads by
        count = super().readinto(buffer)
        if count and self._left > 0:
            self._left -= count
            self._way.moved(count)
        return count
