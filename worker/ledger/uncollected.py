"""How large the records are that nobody has collected yet, by a few of them."""

from __future__ import annotations

from statistics import fmean
from typing import NamedTuple

import redis

# So many records are measured at each of so many places of what has come since the last look.
WEIGHED = 2
PLACES = 4

_Entry = tuple[bytes, dict[bytes, bytes]]


class _Layer(NamedTuple):
    """Records that came between two looks.

    Attributes:
        since: when the first of them came, ms of Redis' clock.
        until: when it was looked, ms.
        left: how many are not collected yet.
        mean: their mean size, bytes.
    """

    since: int
    until: int
    left: float
    mean: float

    def after(self, first: int) -> _Layer:
        """What is left where the oldest record came at ``first``: a collector takes the oldest first."""
        if first <= self.since:
            return self
        share = (self.until - first) / (self.until - self.since)
        return self._replace(since=first, left=self.left * share)


class Uncollected:
    """Weighs a results stream; looks often see what came since the last one, and how many.

    A stream has no middle that could be asked for: its ids are times, and half of the time is not half of the records.
    One sample of all of it took 1,000 small records and 400 large ones for all small, or half large, by the moment of
    the look. So what came between two looks is weighed by itself, and counts as many times as it has records.
    """

    def __init__(self, client: redis.Redis, results: str) -> None:
        """Look at nothing yet.

        Args:
            client: of the broker.
            results: the stream's key.
        """
        self._client = client
        self._results = results
        self._layers: list[_Layer] = []

    def mean_bytes(self) -> float:
        """Looks, and returns the mean size of the records; 0 if there are none.

        MEMORY USAGE would be exact, but is not among what the users of deploy/redis/users.acl may do.
        """
        pipe = self._client.pipeline(transaction=False)
        pipe.time()
        pipe.xlen(self._results)
        pipe.xrange(self._results, count=1)
        (seconds, micros), count, oldest = pipe.execute()
        if not oldest:
            self._layers = []
            return 0.0
        now = seconds * 1000 + micros // 1000
        first = _came_ms(oldest[0])
        begin = max(first, self._layers[-1].until + 1) if self._layers else first
        layers = [layer.after(first) for layer in self._layers if layer.until > first]
        new = count - sum(layer.left for layer in layers)
        if new > 0 and (sample := self._sample(begin, now)):
            mean = fmean(len(fields.get(b"record", b"")) for _, fields in sample)
            layers.append(_Layer(_came_ms(sample[0]), now, new, mean))
        self._layers = layers
        total = sum(layer.left for layer in layers)
        return sum(layer.left * layer.mean for layer in layers) / total if total else 0.0

    def _sample(self, begin: int, end: int) -> list[_Entry]:
        """The first record from ``begin`` on (ms), and a few more until ``end``, from places as far apart in time."""
        pipe = self._client.pipeline(transaction=False)
        for place in sorted({begin + (end - begin) * number // PLACES for number in range(PLACES)}):
            pipe.xrange(self._results, min=place, count=WEIGHED)
        return [entry for entries in pipe.execute() for entry in entries]


def _came_ms(entry: _Entry) -> int:
    """When this record came: an entry's id begins with it."""
    return int(entry[0].split(b"-")[0])
