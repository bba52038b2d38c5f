"""What is far longer than a message costs a worker's main process nothing, and the next message is taken."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import redis
from kombu import Connection, Consumer, Message, Queue

from worker.app import IMAGE_QUEUE, UNACKED, UNACKED_INDEX, app_for
from worker.broker import queue
from worker.broker.quarantine import QUARANTINE_KEY
from worker.broker.short_replies import KEPT_BYTES, MOST_BYTES, TooLong, short_replies
from worker.celery_ext.consumer import FleetConsumer
from worker.messages import ImageTask
from worker.settings import Settings

LONG = 32 << 20
READ = """
import resource, sys
from worker.broker.connection import impatient
client = impatient(sys.argv[1])
client.ping()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
taken = client.brpop("list", 1)[1]
print(len(taken), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.parametrize("more", [0, 1, KEPT_BYTES, 65536, 65537])
@pytest.mark.parametrize("protocol", [2, 3])
def test_what_follows_a_long_value_is_read_rightly(client: redis.Redis, more: int, protocol: int) -> None:
    short = redis.Redis.from_url(client_url(client), protocol=protocol)
    short.connection_pool.connection_class = short_replies(short.connection_pool.connection_class)
    client.rpush("list", b"a" * MOST_BYTES, b"b" * (MOST_BYTES + more), b"c")
    first, second, third = short.lrange("list", 0, -1)
    assert first == b"a" * MOST_BYTES and third == b"c"
    assert isinstance(second, TooLong) == bool(more)
    assert second == b"b" * (KEPT_BYTES - 2 if more else MOST_BYTES)
    assert short.hget("list2", "none") is None and short.ping()
    short.close()


def client_url(client: redis.Redis) -> str:
    return f"unix://{client.connection_pool.connection_kwargs['path']}"


def test_a_long_message_is_not_held_in_memory(client: redis.Redis) -> None:
    client.lpush("list", bytes(LONG))
    told = subprocess.run([sys.executable, "-c", READ, client_url(client)], capture_output=True, text=True, check=True)
    length, grown_mb = map(int, told.stdout.split())
    assert length < KEPT_BYTES and grown_mb < 4 and client.llen("list") == 0


def test_a_long_message_is_kept_for_people_and_the_next_is_taken(client: redis.Redis, settings: Settings) -> None:
    """Before: 100 MB on the queue took the main process from 146 to 454 MB, above its limit."""
    client.lpush(IMAGE_QUEUE, b"x" * LONG)
    queue.send(app_for(settings), ImageTask(job="job", index=0, image="a", uri="file:///a"))
    consumer = FleetConsumer.__new__(FleetConsumer)  # its constructor wants a whole worker
    consumer.app = app_for(settings)
    taken: list[Message] = []
    with consumer.connection_for_read() as connection, connection.channel() as channel:
        take(connection, channel, taken)
    assert len(taken) == 1 and taken[0].headers["id"] == "job:0"
    [(_, kept)] = client.xrange(QUARANTINE_KEY)
    assert kept[b"reason"] == f"over {MOST_BYTES >> 10} KiB".encode() and kept[b"raw"] == b"x" * (KEPT_BYTES - 2)


def take(connection: Connection, channel: object, taken: list[Message]) -> None:
    consumer = Consumer(channel, [Queue(IMAGE_QUEUE)], accept=["json"])
    consumer.on_message = taken.append
    consumer.consume()
    for _ in range(2):
        connection.drain_events(timeout=2)


def test_what_workers_hold_may_be_long_too(client: redis.Redis, settings: Settings) -> None:
    """A stranger's entry in ``unacked``. Before, it was read whole and put back on the queue."""
    message = {"body": "a" * LONG, "headers": {}, "properties": {"delivery_info": {"redelivered": False}}}
    client.hset(UNACKED, "tag", json.dumps([message, "", IMAGE_QUEUE]))
    client.zadd(UNACKED_INDEX, {"tag": 1})
    consumer = FleetConsumer.__new__(FleetConsumer)
    consumer.app = app_for(settings)
    with consumer.connection_for_read() as connection, connection.channel() as channel:
        channel.qos.restore_visible(interval=1)
    assert not client.exists(UNACKED, UNACKED_INDEX, *queue.QUEUE_LISTS) and client.xlen(QUARANTINE_KEY) == 1
