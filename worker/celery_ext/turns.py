"""Urgent pages go before what waits, but while others wait they have no more than half of a worker's time.

A worker takes from the queue's end, where the urgent ones are. Pages that each take minutes, sent one after the other,
kept all other jobs waiting for as long as they came. So a worker that has spent more time on urgent pages than on
others puts the urgent one it was given back, and takes the first that is not. Each worker counts for itself: nothing
in Redis says whose turn it is, and a worker of the version before goes on as it did.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from redis import Redis

from worker.broker.urgent import MARKED, MOST_LOOKED_AT
from worker.broker.whole import DROP_TOO_LARGE, MOST_QUEUED

AHEAD_S = 5.0
"""By so much time may urgent pages be ahead: a few pictures that somebody waits for wait for nobody else's page."""

# KEYS 1: the queue.  ARGV: the message that was taken, the mark of urgent ones, how many are looked at. Returns the
# first one from the end without the mark, in whose place the other one goes; false if there is none, or where one of a
# stranger's size comes first. The first command
# only removes: a full Redis refuses a script before its first change.
_SWAP_LUA = (
    DROP_TOO_LARGE
    + """
if drop_too_large(KEYS[1], ARGV[4]) then return false end
for place = 1, tonumber(ARGV[3]) do
  local raw = redis.call('LRANGE', KEYS[1], -place, -place)[1]
  if not raw or #raw > 65536 then return false end
  if not string.find(raw, ARGV[2], 1, true) then
    redis.call('LREM', KEYS[1], -1, raw)
    redis.call('RPUSH', KEYS[1], ARGV[1])
    return raw
  end
end
return false
"""
)


class Turns:
    """What a worker's time went to lately."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing was done yet.

        Args:
            clock: seconds that only grow.
        """
        self._clock = clock
        self._begun: dict[str, tuple[float, bool]] = {}
        self._ahead_s = 0.0

    def begin(self, tag: str, *, urgent: bool) -> None:
        """A page was taken.

        Args:
            tag: its message's delivery tag.
            urgent: whether it went before others.
        """
        self._begun[tag] = self._clock(), urgent

    def end(self, tag: str) -> None:
        """A page is done with. Safe to call twice, or for what is no page."""
        if (begun := self._begun.pop(tag, None)) is not None:
            since, urgent = begun
            took = self._clock() - since
            self._ahead_s = max(0.0, self._ahead_s + (took if urgent else -took))

    @property
    def others_are_next(self) -> bool:
        """Whether a page that is not urgent goes before one that is."""
        return self._ahead_s > AHEAD_S

    def nobody_waited(self) -> None:
        """Only urgent pages were there: those who come later have not waited for them."""
        self._ahead_s = 0.0


def swap(client: Redis, queue: str, message: bytes) -> bytes | None:
    """Put an urgent message back, and take the first that is not. None: there is none, the message is still taken.

    Args:
        client: of the broker.
        queue: the list's name.
        message: as it was taken.

    Raises:
        redis.RedisError: no answer; the message may be back.
    """
    found: bytes | None = client.register_script(_SWAP_LUA)(
        keys=[queue], args=[message, MARKED, MOST_LOOKED_AT, MOST_QUEUED]
    )
    return found
