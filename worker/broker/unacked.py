"""What is in ``unacked``, or in its index, and is no message that a worker holds: removed.

kombu writes both in one step, and removes both. Whoever may write to Redis can put 300 words into the hash alone: kombu
goes by the index, so they stayed, the window was full, and no job was ever fed again. A message whose time lies ahead
is never delivered again: it is as if it were taken now.
"""

from __future__ import annotations

import redis

from worker.app import UNACKED, UNACKED_INDEX
from worker.broker.queue import id_in_hand, take_away
from worker.broker.whole import read_hash, read_scores

AHEAD_S = 60
"""Times are of Redis' clock; it may be set back."""

# KEYS: index, hash.  ARGV: seconds that a time may lie ahead, then tags. Looks again: what was read before is of two
# moments. Returns how many were removed, or had their time set.
_SETTLE = """
if redis.replicate_commands then redis.replicate_commands() end
local clock = redis.call('TIME')
local now, settled = clock[1] + clock[2] / 1e6, 0
for place = 2, #ARGV do
  local tag = ARGV[place]
  local since, held = redis.call('ZSCORE', KEYS[1], tag), redis.call('HEXISTS', KEYS[2], tag) == 1
  if since and not held then
    settled = settled + redis.call('ZREM', KEYS[1], tag)
  elseif held and not since then
    settled = settled + redis.call('HDEL', KEYS[2], tag)
  elseif since and tonumber(since) > now + tonumber(ARGV[1]) then
    redis.call('ZADD', KEYS[1], now, tag)
    settled = settled + 1
  end
end
return settled
"""


def settle(client: redis.Redis) -> int:
    """Remove what is no message in hand. Returns how many entries were removed, or had their time set."""
    messages, since = read_hash(client, UNACKED), read_scores(client, UNACKED_INDEX)
    strange = [tag for tag, raw in messages.items() if not id_in_hand(raw)]
    settled = sum(take_away(client, tag) for tag in strange)
    latest = client.time()[0] + AHEAD_S
    odd = messages.keys() ^ since.keys()
    odd |= {tag for tag, time in since.items() if time > latest}
    if odd := odd.difference(strange):
        settled += int(client.register_script(_SETTLE)(keys=[UNACKED_INDEX, UNACKED], args=[AHEAD_S, *odd]))
    return settled
