"""Files by the million, each a mark of 64 bits: a dict or set of Python's takes 70 to 1,400 bytes a file.

Marks are digests, spread evenly, so each goes into one of `SHELVES` sorted arrays by its value: putting one in moves
40 KB where there are ten million (2 us).
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left, insort
from hashlib import blake2b
from itertools import compress

SHELVES = 1 << 10
_KEY = os.urandom(16)  # of this process; no mark is kept


def mark_of(name: bytes) -> int:
    """A file's mark, which nobody knows beforehand: else two names are found that have one, and one is never done."""
    return int.from_bytes(blake2b(name, digest_size=8, key=_KEY).digest())


class Marks:
    """A set of marks. 8 bytes each, and 80 KB."""

    def __init__(self) -> None:
        """Empty."""
        self._shelves = [array("Q") for _ in range(SHELVES)]

    def __contains__(self, mark: int) -> bool:
        """Whether it was added."""
        shelf = self._shelves[mark % SHELVES]
        place = bisect_left(shelf, mark)
        return place < len(shelf) and shelf[place] == mark

    def add(self, mark: int) -> None:
        """Put one in, unless it is there."""
        if mark not in self:
            insort(self._shelves[mark % SHELVES], mark)


class Unchanged:
    """Since when each of many files is as it is. 25 bytes a file."""

    def __init__(self) -> None:
        """None is known."""
        self._shelves = [_Shelf() for _ in range(SHELVES)]
        self._look = 0

    def begin_look(self) -> None:
        """From now on each file that is there is asked for (`since`)."""
        self._look ^= 1

    def since(self, mark: int, facts: int, now: float) -> float:
        """When a file was first seen as it is: `now`, if it was not seen before, or is another since.

        Args:
            mark: of its path, 64 bits.
            facts: of what it is like, 64 bits.
            now: seconds.
        """
        shelf = self._shelves[mark % SHELVES]
        place = bisect_left(shelf.marks, mark)
        if place == len(shelf.marks) or shelf.marks[place] != mark:
            shelf.marks.insert(place, mark)
            shelf.facts.insert(place, facts)
            shelf.since.insert(place, now)
            shelf.looks.insert(place, self._look)
            return now
        shelf.looks[place] = self._look
        if shelf.facts[place] != facts:
            shelf.facts[place], shelf.since[place] = facts, now
        return shelf.since[place]

    def end_look(self) -> None:
        """Forget the files that were not asked for since `begin_look`."""
        for shelf in self._shelves:
            if shelf.looks.count(self._look) < len(shelf.looks):
                shelf.keep([look == self._look for look in shelf.looks])


class _Shelf:
    """Some files, in the order of their marks."""

    __slots__ = ("facts", "looks", "marks", "since")

    def __init__(self) -> None:
        self.marks = array("Q")
        self.facts = array("Q")
        self.since = array("d")
        self.looks = bytearray()  # the look it was met in last, 0 or 1

    def keep(self, which: list[bool]) -> None:
        self.marks = array("Q", compress(self.marks, which))
        self.facts = array("Q", compress(self.facts, which))
        self.since = array("d", compress(self.since, which))
        self.looks = bytearray(compress(self.looks, which))
