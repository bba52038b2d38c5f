"""Messages of several jobs take turns: the first waiting page of each job, then the second of each, and so on.

A queue alone serves who came first. Five pages of a small job then waited for the 231 that a big one had put there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from celery import Celery
from kombu import Producer

from worker.broker.sending import SendingChannel
from worker.broker.urgent import MARKED, MOST_LOOKED_AT, producer_over
from worker.broker.whole import DROP_TOO_LARGE, MOST_QUEUED

# kombu puts at the left of a list and takes from its right. The new message's place is behind its job's last one, and
# there before the second message of any other job. Its job's last one is mostly near the left, so that end is looked at
# first, one message at a time (32 of a stranger's 6 MB took Redis to 550); in a queue longer than is looked at, then
# the right one. Whichever side of the place has fewer messages is taken off and put back. The first command only
# removes: a full Redis refuses a script before its first change, or not at all.
# ARGV: message, how many are looked at, the mark of urgent ones, what the job's messages have in them and no other's,
# how much of a queue is ours.
_PUT_LUA = (
    DROP_TOO_LARGE
    + """
drop_too_large(KEYS[1], ARGV[5])
local key, new, most, urgent, mine = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local length = redis.call('LLEN', key)
local all, skipped, place, strange = {}, 0, nil, false
local function look(from, to)
  for at = from, to do
    local raw = redis.call('LRANGE', key, at, at)[1]
    strange = strange or #raw > 65536  -- of a stranger: ours have 2 KB; moving 190 of 1 MB took Redis to 1.4 GB
    if strange then return end
    all[#all + 1] = raw
    if string.find(raw, mine, 1, true) then
      place = #all
      return
    end
  end
end
look(0, math.min(length, most) - 1)
if not place and not strange and length > #all then
  skipped, all = math.max(0, length - most), {}
  look(skipped, length - 1)
end
if strange then
  redis.call('LPUSH', key, new)
  return
end
place = place or #all + 1
local seen = {}
while place > 1 do
  local following = all[place - 1]
  if not string.find(following, urgent, 1, true) then
    local job = string.match(following, '"id": "([^"]*):%d+"') or ''
    if seen[job] then break end
    seen[job] = true
  end
  place = place - 1
end
if place == 1 or (skipped == 0 and place - 1 <= length / 2) then
  for i = 1, place - 1 do redis.call('LREM', key, 1, all[i]) end
  redis.call('LPUSH', key, new)
  for i = place - 1, 1, -1 do redis.call('LPUSH', key, all[i]) end
else
  local ahead = {}
  for at = skipped + place - 1, length - 1 do
    local raw = redis.call('LRANGE', key, at, at)[1]
    if #raw > 65536 then
      redis.call('LPUSH', key, new)
      return
    end
    ahead[#ahead + 1] = raw
  end
  for i = #ahead, 1, -1 do redis.call('LREM', key, -1, ahead[i]) end
  redis.call('RPUSH', key, new)
  for i = 1, #ahead do redis.call('RPUSH', key, ahead[i]) end
end
"""
)


class InTurnChannel(SendingChannel):
    """kombu's, but for where new messages are put."""

    def _put(self, queue: str, message: Mapping[str, object], **options: object) -> None:
        headers = message["headers"]
        assert isinstance(headers, dict)
        job = str(headers["id"]).rpartition(":")[0]
        with self.conn_or_acquire() as client:
            put = client.register_script(_PUT_LUA)
            # As kombu's JSON has it; in a text its quotes would be escaped.
            put(keys=[queue], args=[json.dumps(message), MOST_LOOKED_AT, MARKED, f'"id": "{job}:', MOST_QUEUED])


def in_turn_producer(app: Celery, url: str) -> Producer:
    """What sends messages that take turns with those of other jobs; one connection, kept.

    Args:
        app: its settings are used.
        url: of the broker, so that another broker gets another producer.
    """
    return producer_over(InTurnChannel, app, url)
