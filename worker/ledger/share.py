"""A job's share of the window while other jobs have pages on their way: one job's pages leave room for another's."""

from __future__ import annotations

import time

from worker.ledger.job_names import job_names
from worker.ledger.ledger import Ledger
from worker.redis_keys import JobKeys

LOOK_EVERY_S = 1.0
# Of the index of jobs; more than that share nothing among them.
MOST_SHARING = 256
# However many jobs there are, each may have so many pages on their way: no worker waits for a producer.
AT_LEAST = 16
STILL_S = 900
"""A job at which nothing was done for so long takes no part. 255 that somebody made up left each real one 16 pages, for
as long as their keys lived."""

# ARGV: how long a job may be still, ms; then the hashes of jobs. Returns how many of them have pages on their way. What
# is of another type is nobody's; a time to come is none.
_SHARING = """
local clock = redis.call('TIME')
local now, sharing = clock[1] * 1000, 0
for place = 2, #ARGV do
  local pages = redis.pcall('HLEN', ARGV[place] .. ':tasks')
  if type(pages) == 'number' and pages > 0 then
    local latest = 0
    for _, field in ipairs({'created_ms', 'fed_ms', 'progress_ms'}) do
      local size = redis.pcall('HSTRLEN', ARGV[place], field)
      local time
      if type(size) == 'number' and size > 0 and size < 20 then
        time = tonumber(redis.call('HGET', ARGV[place], field))
      elseif type(size) ~= 'number' and not string.find(size.err, 'WRONGTYPE', 1, true) then
        time = now  -- users of the version before may not ask for it
      end
      if time and time < now + 60000 and time > latest then latest = time end
    end
    if now - latest < tonumber(ARGV[1]) then sharing = sharing + 1 end
  end
end
return sharing
"""


class Share:
    """Counts the jobs that share the queue.

    A job whose producer is gone and whose pages are done takes no part: what counts is pages on their way.
    """

    def __init__(self, ledger: Ledger, job: str) -> None:
        """Look at nothing yet."""
        self._ledger = ledger
        self._job = job
        self._others = 0
        self._looked_at = -LOOK_EVERY_S

    def others(self) -> int:
        """Other jobs with pages on their way; asked once a second."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            names = job_names(self._ledger.client, -MOST_SHARING)
            others = [JobKeys.of(name).job for name in names if name != self._job]
            self._others = int(self._ledger.client.register_script(_SHARING)(args=[STILL_S * 1000, *others]))
        return self._others

    def in_flight(self) -> int:
        """This job's pages on their way."""
        count: int = self._ledger.client.hlen(JobKeys.of(self._job).tasks)
        return count


def room_in_share(in_flight: int, jobs: int, low: int, high: int) -> int:
    """How many pages a job may send, one of several.

    Args:
        in_flight: its pages on their way.
        jobs: how many share the window.
        low: the window's low mark: where one job alone sends again, up to...
        high: ...its high mark.
    """
    share = max(high // jobs, min(AT_LEAST, high))
    room = share - in_flight
    return room if room * high >= share * (high - low) else 0
