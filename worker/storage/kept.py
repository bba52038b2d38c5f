"""The archives that are kept open from page to page, each at the place where its last page was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from detector.memory import limit_in_force, resident_bytes
from worker.storage.bound import Bound

MOST_KEPT = 2
"""Jobs that are open at once take turns, a page each: with one place, a worker came to each page of two jobs, each a
large tar, from its beginning."""


class Cursor(Protocol):
    """What takes members out of one archive, and keeps it open."""

    def open_member(self, archive: Path, member: str, bound: Bound, number: int | None) -> IO[bytes]:
        """As of a `worker.storage.tars.TarCursor`."""

    def close(self) -> None:
        """Let go of the archive."""


class _Place:
    """A cursor, and how long took all that was read of its archive since it was opened, seconds."""

    def __init__(
        self, make: Callable[[Callable[[Path], BinaryIO]], Cursor], open_file: Callable[[Path], BinaryIO]
    ) -> None:
        self.way_s = 0.0
        self.file: BinaryIO | None = None
        self._open = open_file
        self.cursor = make(self._from_its_beginning)

    def _from_its_beginning(self, path: Path) -> BinaryIO:
        self.way_s = 0.0
        self.file = self._open(path)
        return self.file


class Kept:
    """Up to two archives of one kind; one where more than half of this process's memory is in use.

    Args:
        make: a cursor, of what opens its archive.
        open_file: opens an archive.
    """

    def __init__(
        self, make: Callable[[Callable[[Path], BinaryIO]], Cursor], open_file: Callable[[Path], BinaryIO]
    ) -> None:
        self._make = make
        self._open = open_file
        self._places: dict[Path, _Place] = {}  # the one that was used last comes last
        self._last: _Place | None = None

    def open_member(self, archive: Path, member: str, bound: Bound, number: int | None) -> IO[bytes]:
        """As the cursors' own."""
        place = self._places.pop(archive, None)
        if place is None:
            while len(self._places) >= _room():
                self._places.pop(next(iter(self._places))).cursor.close()
            place = _Place(self._make, self._open)
        self._places[archive] = self._last = place
        return place.cursor.open_member(archive, member, bound, number)

    @property
    def file(self) -> BinaryIO | None:
        """The archive that was used last; what its reads met: `detector.images.regular_file.read_error`."""
        return self._last.file if self._last else None

    def spent(self, seconds: float) -> None:
        """So long took what was last read."""
        if self._last is not None:
            self._last.way_s += seconds

    def way_s(self) -> float:
        """What it would cost another process to come to the places that are kept here, seconds."""
        return sum(place.way_s for place in self._places.values())

    def drop(self) -> None:
        """Let go of the archive that was used last."""
        if self._places:
            self._places.popitem()[1].cursor.close()

    def close(self) -> None:
        """Let go of all."""
        while self._places:
            self.drop()


def _room() -> int:
    limit = limit_in_force()
    return MOST_KEPT if limit is None or resident_bytes() < limit / 2 else 1
