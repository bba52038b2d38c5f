"""Places of which there are a few: one more visitor takes that of who has had his the longest.

Where a place takes an honest visitor milliseconds, or he can have it again at once, this keeps nobody out: 64 who
watched a job and read nothing kept everybody else from watching, for as long as they liked.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Lent:
    """One place. Leave it at the end (a context manager).

    Attributes:
        given_up: whether somebody else has it.
    """

    def __init__(self, places: Places, since: float, give_up: Callable[[], None]) -> None:
        """See `Places.lend`."""
        self.given_up = False
        self.since = since
        self.give_up = give_up
        self.is_kept = False
        self._places = places

    def keep(self) -> None:
        """From now on it is not the visitor who is waited for: his place stays his."""
        self.is_kept = True

    def __enter__(self) -> Lent:
        return self

    def __exit__(self, *error: object) -> None:
        self._places.leave(self)


class Places:
    """For the event loop alone."""

    def __init__(self, most: int, least_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        """All are free.

        Args:
            most: places.
            least_s: nobody's is given up before, seconds.
            clock: for tests.
        """
        self._most, self._least_s, self._clock = most, least_s, clock
        self._lent: dict[Lent, None] = {}  # in the order of their beginnings

    def lend(self, give_up: Callable[[], None] = lambda: None) -> Lent | None:
        """A place, that of who has had his the longest if need be. None: nobody has had his for long, or all keep it.

        Args:
            give_up: called where somebody else gets it; that it is one's own no more, `Lent` says as well.
        """
        now = self._clock()
        if len(self._lent) >= self._most:
            longest = next((one for one in self._lent if not one.is_kept), None)
            if longest is None or now - longest.since < self._least_s:
                return None
            self.leave(longest)
            longest.given_up = True
            longest.give_up()
        lent = Lent(self, now, give_up)
        self._lent[lent] = None
        return lent

    def leave(self, lent: Lent) -> None:
        """It is free. Safe to call twice."""
        self._lent.pop(lent, None)
