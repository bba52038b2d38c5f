"""Places for uploads: who sends slowly keeps his as long as nobody waits for it.

A client on a poor line may take an hour for a large PDF, so a slow upload is no fault by itself. But 50 of 1 KB a
second kept every other upload out for days. Slow is who is it now: 20 MiB at once, and then a byte now and then, were
quick on the average for five minutes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from producer.web.bounds.room import Claim

SLOW_BYTES_S = 64 * 1024  # a poor DSL line sends as much; what is slower gives way to others
LOOKED_AT_S = 15.0  # a rate is that of so many seconds before now; nobody's is judged before

Slow = TypeVar("Slow")


class Rate:
    """What a client lately sent, or took. For the event loop alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Wait for nobody yet.

        Args:
            clock: seconds.
        """
        self._clock = clock
        self._began: float | None = None
        self._lately: deque[tuple[float, int]] = deque()  # a second's end, and bytes in it

    def begin(self) -> None:
        """From now on it is the client that is waited for."""
        self._began = self._clock()

    def end(self) -> None:
        """All is there: what still has to be done, such as having files on the disk, is not the client's time."""
        self._began = None

    def add(self, size: int) -> None:
        """So many bytes more."""
        now = self._clock()
        if self._lately and now < self._lately[-1][0]:
            until, before = self._lately.pop()
            self._lately.append((until, before + size))
            return
        self._forget(now)
        self._lately.append((now + 1, size))

    def _forget(self, now: float) -> None:
        while self._lately and self._lately[0][0] <= now - LOOKED_AT_S:
            self._lately.popleft()

    def slowness(self) -> float | None:
        """Bytes a second, if they are few enough, and have been for long enough, to give way."""
        now = self._clock()
        if self._began is None or now - self._began < LOOKED_AT_S:
            return None
        self._forget(now)
        rate = sum(size for _, size in self._lately) / LOOKED_AT_S
        return rate if rate < SLOW_BYTES_S else None


def slowest(those: Iterable[tuple[Slow, float | None]]) -> tuple[Slow, float] | None:
    """Who gives way, and his bytes a second: of pairs of somebody and his `Rate.slowness`. None: all are quick."""
    slow = [(one, rate) for one, rate in those if rate is not None]
    return min(slow, key=lambda pair: pair[1], default=None)


class Place:
    """One upload that is being received.

    Attributes:
        claim: of the quota; given back at once where the place is given up.
        given_up: whether others needed the place.
        rate: of bytes of files. What is beside files is no upload.
    """

    def __init__(self, places: UploadPlaces) -> None:
        """See `UploadPlaces.take`."""
        self.claim: Claim | None = None
        self.given_up = False
        self.places = places
        self.rate = Rate(places.clock)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *error: object) -> None:
        self.places.leave(self)


class UploadPlaces:
    """The uploads that are received at a time. For the event loop alone."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Give none yet.

        Args:
            most: places.
            clock: for tests.
        """
        self._most, self.clock = most, clock
        self._taken: set[Place] = set()

    def take(self) -> Place | None:
        """A place; where there is none, that of the slowest of the slow ones. None: all are quick."""
        if len(self._taken) >= self._most and not self.give_up_slowest():
            return None
        place = Place(self)
        self._taken.add(place)
        return place

    def leave(self, place: Place) -> None:
        """The upload is over."""
        self._taken.discard(place)

    def give_up_slowest(self) -> bool:
        """Somebody needs a place, or room of the quota: the slowest of the slow loses both. False: there is none."""
        if (found := slowest((place, place.rate.slowness()) for place in self._taken)) is None:
            return False
        place, _ = found
        self._taken.discard(place)
        place.given_up = True  # its reader ends with its next bytes, or their absence
        if place.claim is not None:
            place.claim.close()
        return True
