"""Which records of a results stream are true: whoever has a worker's password may write some ahead of their pages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import redis

from worker.broker.damaged_keys import replies
from worker.redis_keys import JobKeys

NEAR = 1024
"""Pages between two that are asked for at once: one question is dearer than so many states."""

MOST_DOUBTED = 1 << 17
"""Six times what a feeder lets wait. Each is 100 bytes here."""


def done_as(client: redis.Redis, keys: JobKeys, indices: Collection[int]) -> tuple[dict[int, bytes], int]:
    """The states of pages, and how many entries waited then: among them is the true record of each that is done.

    A page's record and its state are written in one step: a record of one that is not done was written by somebody
    else, or the page was made unfed since, and is done again.

    Args:
        client: connection to the broker.
        keys: the job's.
        indices: pages of which records were read before.
    """
    runs = list(_runs(indices))
    pipe = client.pipeline(transaction=False)
    for first, last in runs:
        pipe.getrange(keys.state, first, last)
    pipe.xlen(keys.results)
    *states, waiting = replies(pipe)
    found = {
        first + place: bytes([state])
        for (first, last), some in zip(runs, states, strict=True)
        for place, state in enumerate((some or b"")[: last + 1 - first])
    }
    return found, waiting or 0


def _runs(indices: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last of pages that are near to each other."""
    ordered = sorted(set(indices))
    begin = 0
    for place in range(1, len(ordered) + 1):
        if place == len(ordered) or ordered[place] - ordered[place - 1] > NEAR:
            yield ordered[begin], ordered[place - 1]
            begin = place


class Doubles:
    """Of two records of one page that waited at the same time the later is true: a page has one, once it is done.

    What was written ahead of it came before. What comes when the true one is on disk changes nothing.
    """

    def __init__(self) -> None:
        """None was taken yet."""
        self._pages: set[int] = set()
        self._waiting = 0

    def __contains__(self, index: int) -> bool:
        """Whether a page's true record may still wait, though one was taken."""
        return index in self._pages

    def took(self, pages: Iterable[int], entries: int, waiting: int) -> None:
        """So many entries are gone, with the records of these pages.

        Args:
            pages: whose record was taken.
            entries: how many went.
            waiting: how many waited when it was asked whether the pages are done, these among them.
        """
        self._waiting = max(self._waiting, waiting) - entries
        self._pages.update(pages)
        if self._waiting <= 0 or len(self._pages) > MOST_DOUBTED:
            self._pages.clear()
