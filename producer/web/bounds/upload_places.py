"""Places for uploads: who sends slowly keeps his as long as nobody waits for it.

A client on a poor line may take an hour for a large PDF, so a slow upload is no fault by itself. But 50 of 1 KB a
second kept every other upload out for days. Slow is who is it now: 20 MiB at once, and then a byte now and then, were
quick on the average for five minutes. And nobody is safe for being new: 60 connections that sent a head, and were begun
anew each 9 s, kept 26 of 27 uploads out when nobody was judged in his first 15 s. Since nobody can be in his first
`FIRST_S` either, who comes then waits in a line, which who begins anew joins at its end.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from producer.web.bounds.room import Claim, Room

SLOW_BYTES_S = 64 * 1024  # a poor DSL line sends as much; what is slower gives way to others
LOOKED_AT_S = 15.0  # a rate is that of so many seconds before now
FIRST_S = 2.0  # which nobody is asked about: a round trip or two, a TLS proxy, a `100 Continue`
WAIT_S = 30.0  # in a line, at most; where none sends more than a head, 25 of 50 places are free each second
LOOK_S = 0.05
MOST_WAITING = 32  # in a line: 300 honest uploads at a time are not to have all of the page's 256 connections

Slow = TypeVar("Slow")
Found = TypeVar("Found")


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

    def is_young(self) -> bool:
        """Whether it may yet turn out to be slow: it was not looked at for long, or is not waited for yet."""
        return self._began is None or self._clock() - self._began < FIRST_S + LOOKED_AT_S

    def slowness(self) -> float | None:
        """Bytes a second of the time behind `FIRST_S`, if they are few enough to give way."""
        now = self._clock()
        if self._began is None or now - self._began <= FIRST_S:
            return None
        self._forget(now)
        rate = sum(size for _, size in self._lately) / min(now - self._began - FIRST_S, LOOKED_AT_S)
        return rate if rate < SLOW_BYTES_S else None


def slowest(those: Iterable[tuple[Slow, float | None]]) -> tuple[Slow, float] | None:
    """Who gives way, and his bytes a second: of pairs of somebody and his `Rate.slowness`. None: all are quick."""
    slow = [(one, rate) for one, rate in those if rate is not None]
    return min(slow, key=lambda pair: pair[1], default=None)


class Line:
    """Who waits for what others have: first come, first served. For the event loop alone."""

    def __init__(self) -> None:
        """Nobody does."""
        self._first = asyncio.Lock()  # it is given to who has waited for it the longest
        self._waiting = 0

    async def wait(self, take: Callable[[], Found | None], may_be_had: Callable[[], bool]) -> Found | None:
        """What `take` gives, when it is one's turn.

        Args:
            take: None: there is none now.
            may_be_had: whether there may be one within seconds, though there is none now.

        Returns:
            None: it may not, or `WAIT_S` are over, or `MOST_WAITING` wait.
        """
        if self._waiting >= MOST_WAITING:
            return None
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_S), self._first:
                while (found := take()) is None and may_be_had():
                    await asyncio.sleep(LOOK_S)
                return found
        except TimeoutError:
            return None
        finally:
            self._waiting -= 1


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
        self._line, self._room_line = Line(), Line()

    async def wait(self) -> Place | None:
        """As `take`, as soon as those who are young have shown what they are."""
        return await self._line.wait(self.take, lambda: any(place.rate.is_young() for place in self._taken))

    async def wait_for_room(self, room: Room, quota: int, size: int) -> Claim | None:
        """As `Room.claim`, that of the slowest of the slow ones if need be. None: nobody who has such is slow."""

        def take() -> Claim | None:
            while (found := room.claim(quota, size)) is None:
                # Not where all that others were promised is less than what is missing: all of them were sent away.
                if not room.is_promised(quota, size) or not self.give_up_slowest():
                    break
            return found

        def may_be_had() -> bool:
            return room.is_promised(quota, size) and any(
                place.claim is not None and place.rate.is_young() for place in self._taken
            )

        return await self._room_line.wait(take, may_be_had)

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
