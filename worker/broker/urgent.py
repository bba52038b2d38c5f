"""Messages that are taken next: before what waits in the queue, but after the urgent ones that came earlier."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache

from celery import Celery
from kombu import Producer

from worker.broker.sending import FleetConnection, SendingChannel
from worker.broker.whole import DROP_TOO_LARGE, MOST_QUEUED

MARK = "ocrfleet_urgent"
"""A property of urgent messages; kombu hands properties on that it does not know."""

MARKED = f'"{MARK}": true'
"""The mark as json.dumps writes it; in a text its quotes would be escaped."""

MOST_LOOKED_AT = 256

# kombu puts at the left of a list and takes from its right, where the urgent ones are. Putting a new one at the very
# right served the last first: of 60 requests by 20 clients the first 18 waited for all others (28 s, the others 1 s).
# Only commands that deploy/redis/users.acl gives a producer.
_PUT_LUA = (
    DROP_TOO_LARGE
    + """
drop_too_large(KEYS[1], ARGV[4])  -- a message of 190 MB is three times as much in here
local tail = {}  -- from the right; not beyond a message of a stranger's size, of which 190 took Redis to 1.4 GB
while #tail < tonumber(ARGV[2]) do
  local raw = redis.call('LRANGE', KEYS[1], -1 - #tail, -1 - #tail)[1]
  if not raw or #raw > 65536 or not string.find(raw, ARGV[3], 1, true) then break end
  tail[#tail + 1] = raw
end
for _, raw in ipairs(tail) do redis.call('LREM', KEYS[1], -1, raw) end
redis.call('RPUSH', KEYS[1], ARGV[1])
for place = #tail, 1, -1 do redis.call('RPUSH', KEYS[1], tail[place]) end
"""
)


class NextChannel(SendingChannel):
    """kombu's, but for where new messages are put."""

    def _put(self, queue: str, message: Mapping[str, object], **options: object) -> None:
        properties = message["properties"]
        assert isinstance(properties, dict)
        marked = {**message, "properties": {**properties, MARK: True}}
        with self.conn_or_acquire() as client:
            put = client.register_script(_PUT_LUA)
            put(keys=[queue], args=[json.dumps(marked), MOST_LOOKED_AT, MARKED, MOST_QUEUED])


def next_producer(app: Celery, url: str) -> Producer:
    """What sends urgent messages; one connection, kept.

    Args:
        app: its settings are used.
        url: of the broker, so that another broker gets another producer.
    """
    return producer_over(NextChannel, app, url)


@cache
def producer_over(channel: type[SendingChannel], app: Celery, url: str) -> Producer:
    """What sends over such a channel; one connection, kept."""
    connection: FleetConnection = app.connection_for_write()
    connection.channel_class = channel
    producer: Producer = app.amqp.Producer(connection)
    return producer
