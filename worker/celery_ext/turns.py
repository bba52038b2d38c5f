"""Whose page a worker does next: by the time that pages took, not only by their order in the queue.

A worker takes from the queue's end, where the urgent ones are, and before them the jobs in turn, a page each. So pages
that each take minutes kept all others waiting: as urgent ones, sent one after the other, for as long as they came, and
in turn for minutes a page. Therefore each worker counts what its time went to, and where another one waits it puts back
what it was given:

- an urgent page, when urgent ones have had more of its time than all others;
- a page of a job that has had more of it than one that waits.

Nothing in Redis says whose turn it is, and a worker of the version before goes on as it did.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection

from redis import Redis

from worker.broker.urgent import MARKED, MOST_LOOKED_AT
from worker.broker.whole import DROP_TOO_LARGE, MOST_QUEUED

AHEAD_S = 5.0
"""By so much time may one be ahead: a few pictures that somebody waits for wait for nobody else's page."""

MOST_JOBS = 256
"""That are remembered; a window shared by more has fewer pages of each."""

MOST_BEGUN = 256
"""Pages that are remembered: a worker has two in hand, and a connection that is lost leaves one that nobody ends."""

# As in worker/broker/in_turn.py.
_JOB = re.compile(rb'"id": "([^"]*):\d+"')

# KEYS 1: the queue.  ARGV: the message that was taken, the mark of urgent ones, how many are looked at, how much of a
# queue is ours, 1 if a page of a job that is ahead does too, jobs that are ahead. Returns the first message from the
# end that is not urgent, and of no such job, in whose place the other one goes; false if there is none, or where one of
# a stranger's size comes first. The first command only removes: a full Redis refuses a script before its first change.
_SWAP_LUA = (
    DROP_TOO_LARGE
    + """
if drop_too_large(KEYS[1], ARGV[4]) then return false end
local ahead, found = {}, nil
for place = 6, #ARGV do ahead[ARGV[place]] = true end
for place = 1, tonumber(ARGV[3]) do
  local raw = redis.call('LRANGE', KEYS[1], -place, -place)[1]
  if not raw or #raw > 65536 then break end
  if not string.find(raw, ARGV[2], 1, true) then
    local job = string.match(raw, '"id": "([^"]*):%d+"') or ''
    if not ahead[job] then
      found = raw
      break
    end
    if ARGV[5] == '1' then found = found or raw end
  end
end
if not found then return false end
-- Users of a version before may not: the queue's order counts, as it did.
if type(redis.pcall('LREM', KEYS[1], -1, found)) == 'table' then return false end
redis.call('RPUSH', KEYS[1], ARGV[1])
return found
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
        self._begun: dict[str, tuple[float, str, bool]] = {}
        self._urgent_ahead_s = 0.0
        self._used_s: dict[str, float] = {}

    def begin(self, tag: str, job: str, *, urgent: bool) -> None:
        """A page was taken.

        Args:
            tag: its message's delivery tag.
            job: its job.
            urgent: whether it went before others.
        """
        self._begun[tag] = self._clock(), job, urgent
        if len(self._begun) > MOST_BEGUN:
            del self._begun[next(iter(self._begun))]
        if not urgent and job not in self._used_s:
            # Who comes later has waited for nobody yet.
            self._used_s[job] = min(self._used_s.values(), default=0.0)
            if len(self._used_s) > MOST_JOBS:
                del self._used_s[next(iter(self._used_s))]

    def end(self, tag: str) -> None:
        """A page is done with. Safe to call twice, or for what is no page."""
        if (begun := self._begun.pop(tag, None)) is not None:
            since, job, urgent = begun
            took = self._clock() - since
            self._urgent_ahead_s = max(0.0, self._urgent_ahead_s + (took if urgent else -took))
            if not urgent and job in self._used_s:
                self._used_s[job] += took

    def ahead(self) -> set[str]:
        """Jobs that have had more than one that was here lately."""
        least = min(self._used_s.values(), default=0.0)
        return {job for job, used in self._used_s.items() if used > least + AHEAD_S}

    def should_wait(self, message: bytes) -> bool:
        """Whether others go before what was taken, if there are any."""
        if is_urgent(message):
            return self._urgent_ahead_s > AHEAD_S
        return job_of(message) in self.ahead()

    def nobody_waits(self, message: bytes) -> None:
        """There are no others: those who come later have not waited for it."""
        if is_urgent(message):
            self._urgent_ahead_s = 0.0
        else:
            self._used_s.clear()


def is_urgent(message: bytes) -> bool:
    """Whether a message, as it lies in the queue, goes before others."""
    return MARKED.encode() in message


def job_of(message: bytes) -> str:
    """Whose page a message is about, as it lies in the queue; empty if it does not say."""
    found = _JOB.search(message)
    return found[1].decode(errors="replace") if found else ""


def swap(client: Redis, queue: str, message: bytes, ahead: Collection[str] = ()) -> bytes | None:
    """Put a message back, and take one that goes before it. None: there is none, the message is still taken.

    Args:
        client: of the broker.
        queue: the list's name.
        message: as it was taken.
        ahead: jobs whose pages do not go before it, but before an urgent one if there are no others.

    Raises:
        redis.RedisError: no answer; the message may be back.
    """
    arguments = [message, MARKED, MOST_LOOKED_AT, MOST_QUEUED, int(is_urgent(message)), *ahead]
    found: bytes | None = client.register_script(_SWAP_LUA)(keys=[queue], args=arguments)
    return found
