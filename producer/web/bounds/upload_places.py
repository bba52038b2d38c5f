"""Places for uploads: who sends slowly keeps his as long as nobody waits for it.

A client on a poor line may take an hour for a large PDF, so a slow upload is no fault by itself. But 50 of 1 KB a
second kept every other upload out for days.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from producer.web.bounds.room import Claim

SLOW_BYTES_S = 64 * 1024  # a poor DSL line sends as much; what is slower gives way to others
YOUNG_S = 15.0  # nobody's rate is judged before


class Place:
    """One upload that is being received.

    Attributes:
        claim: of the quota; given back at once where the place is given up.
        given_up: whether others needed the place.
    """

    def __init__(self, places: UploadPlaces, now: float) -> None:
        """See `UploadPlaces.take`."""
        self.claim: Claim | None = None
        self.given_up = False
        self.places = places
        self._began, self._received = now, 0

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *error: object) -> None:
        self.places.leave(self)

    def received(self, size: int) -> None:
        """So many bytes more have come."""
        self._received += size

    def slowness(self, now: float) -> float | None:
        """Bytes a second, if they are few enough, and have been for long enough, to give way."""
        took = now - self._began
        rate = self._received / max(took, 1e-9)
        return rate if took >= YOUNG_S and rate < SLOW_BYTES_S else None


class UploadPlaces:
    """The uploads that are received at a time. For the event loop alone."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Give none yet.

        Args:
            most: places.
            clock: for tests.
        """
        self._most, self._clock = most, clock
        self._taken: set[Place] = set()

    def take(self) -> Place | None:
        """A place; where there is none, that of the slowest of the slow ones. None: all are quick."""
        if len(self._taken) >= self._most and not self.give_up_slowest():
            return None
        place = Place(self, self._clock())
        self._taken.add(place)
        return place

    def leave(self, place: Place) -> None:
        """The upload is over."""
        self._taken.discard(place)

    def give_up_slowest(self) -> bool:
        """Somebody needs a place, or room of the quota: the slowest of the slow loses both. False: there is none."""
        now = self._clock()
        slow = [(rate, place) for place in self._taken if (rate := place.slowness(now)) is not None]
        if not slow:
            return False
        _, place = min(slow, key=lambda pair: pair[0])
        self._taken.discard(place)
        place.given_up = True  # its reader ends with its next bytes, or their absence
        if place.claim is not None:
            place.claim.close()
        return True
