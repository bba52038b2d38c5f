"""The index of jobs: their names, without what somebody else wrote there."""

from __future__ import annotations

import redis

from worker.broker.whole import DROP_TOO_LARGE
from worker.redis_keys import JOBS_KEY

MOST_JOBS = 50_000
"""That are looked at: their names, of 64 characters at most, fit into one reply (short_replies.py)."""

MOST_INDEX = 32 << 20
"""Bytes in Redis: 50,000 names take 9 MB. Dropped, it is written anew by each job's next step."""

# KEYS 1: the index.  ARGV: first, last, how much it may take. What is no job's name goes at once, and others are looked
# at instead: 2,560 names of 4 KB filled the reply, and no look for stranded pages saw a real job.
_NAMES = (
    DROP_TOO_LARGE
    + """
if drop_too_large(KEYS[1], ARGV[3]) then return {} end
local names, forged
repeat
  names, forged = {}, {}
  for _, name in ipairs(redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2])) do
    local is_ours = #name <= 64 and string.find(name, '^%w[%w._-]*$')
    local list = is_ours and names or forged
    list[#list + 1] = name
  end
  for from = 1, #forged, 1000 do
    local reply = redis.pcall('ZREM', KEYS[1], unpack(forged, from, math.min(#forged, from + 999)))
    if type(reply) == 'table' then return names end  -- a replica, or a disk that is full
  end
until #forged == 0
return names
"""
)


def job_names(client: redis.Redis, first: int = -MOST_JOBS, last: int = -1) -> list[str]:
    """Names in the index, oldest first.

    Args:
        client: connection to the broker.
        first: rank of the first, from 0; negative: from the newest, which is -1.
        last: rank of the last; no more than `MOST_JOBS` in all.

    Raises:
        redis.RedisError: no answer.
    """
    found = client.register_script(_NAMES)(keys=[JOBS_KEY], args=[first, last, MOST_INDEX])
    return [name.decode("ascii", "replace") for name in found]
