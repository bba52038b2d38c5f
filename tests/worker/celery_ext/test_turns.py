"""Urgent pages leave half of a worker's time to the others, and one that lost a try takes its turn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Message, Queue

from worker.app import IMAGE_QUEUE, UNACKED, UNACKED_INDEX, app_for
from worker.broker import queue
from worker.broker.urgent import MARK
from worker.celery_ext import channel as channel_module
from worker.celery_ext.consumer import FleetConsumer
from worker.celery_ext.turns import AHEAD_S, MOST_BEGUN, MOST_JOBS, Turns, swap
from worker.messages import ImageTask
from worker.redis_keys import COUNTERS_KEY, QUARANTINE_KEY
from worker.settings import Settings


class Clock:
    """Seconds, as long as a test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of a worker's main process that has done nothing yet."""
    clock = Clock()
    monkeypatch.setattr(channel_module, "_turns", Turns(clock))
    return clock


def send(settings: Settings, job: str, index: int, *, urgent: bool = False) -> None:
    queue.send(app_for(settings), ImageTask(job=job, index=index, image="a", uri="file:///a"), urgent=urgent)


@pytest.fixture
def connection(settings: Settings) -> Iterator[Connection]:
    """A worker's, without the rest of it."""
    consumer = FleetConsumer.__new__(FleetConsumer)  # its constructor wants a whole worker
    consumer.app = app_for(settings)
    with consumer.connection_for_read() as connection:
        yield connection


def consume(channel: Any) -> list[Message]:
    """Where what is taken from the queue from now on goes, the newest last."""
    taken: list[Message] = []
    consumer = Consumer(channel, [Queue(IMAGE_QUEUE)], accept=["json"])
    consumer.on_message = taken.append
    consumer.consume()
    return taken


def test_slow_urgent_pages_leave_half_of_the_time_to_the_others(
    client: redis.Redis, settings: Settings, connection: Connection, clock: Clock
) -> None:
    """Before: pages of two minutes each at /detect, sent one after the other, and no other page was ever begun."""
    for index in range(4):
        send(settings, "patient", index)
    for index in range(6):
        send(settings, "quick", index, urgent=True)
    with connection.channel() as channel:
        taken = consume(channel)
        for number in range(10):
            connection.drain_events(timeout=2)
            clock.now += 120 if taken[-1].headers["id"].startswith("quick") else 60
            taken[-1].ack()
            if number == 0:
                send(settings, "quick", 6, urgent=True)
    order = "".join(message.headers["id"][0] for message in taken)
    assert order == "qppqppqqqq", "two of a minute after one of two minutes, and nobody waits for those that are gone"
    assert [message.headers["id"] for message in taken if message.headers["id"][0] == "p"] == [
        f"patient:{index}" for index in range(4)
    ]


def test_slow_pages_of_one_job_leave_the_others_their_part(
    client: redis.Redis, settings: Settings, connection: Connection, clock: Clock
) -> None:
    """Before: a page each, whatever it takes: sixteen jobs of pages of two minutes, and another's took half an hour."""
    for index in range(12):
        for job in ("slow-1", "slow-2", "patient")[: 3 if index < 8 else 1]:
            send(settings, job, index)
    took = {"slow-1": 0.0, "slow-2": 0.0, "patient": 0.0}
    with connection.channel() as channel:
        taken = consume(channel)
        for _ in range(12):
            connection.drain_events(timeout=2)
            job = taken[-1].headers["id"].rpartition(":")[0]
            seconds = 3.0 if job == "patient" else 120.0
            clock.now += seconds
            took[job] += seconds
            taken[-1].ack()
        assert took["patient"] == 8 * 3, "all of them, after one or two of each slow one"
        assert 120 <= took["slow-1"] <= 240 and 120 <= took["slow-2"] <= 240
        for _ in range(28 - 12):
            connection.drain_events(timeout=2)
            taken[-1].ack()
    assert len({message.headers["id"] for message in taken}) == 28 and not client.llen(IMAGE_QUEUE)


def urgent_message(settings: Settings, client: redis.Redis) -> bytes:
    send(settings, "quick", 0, urgent=True)
    message: bytes = client.rpop(IMAGE_QUEUE)
    return message


def test_quick_pictures_still_go_before_all_others(settings: Settings, client: redis.Redis) -> None:
    clock, message = Clock(), urgent_message(settings, client)
    turns = Turns(clock)
    for number in range(10):
        turns.begin(str(number), f"quick{number}", urgent=True)
        clock.now += AHEAD_S / 10
        turns.end(str(number))
        turns.end(str(number))
        assert not turns.should_wait(message)
    turns.begin("slow", "quick", urgent=True)
    clock.now += 1
    turns.end("slow")
    assert turns.should_wait(message)
    turns.nobody_waits(message)
    assert not turns.should_wait(message)


def test_who_comes_later_has_neither_waited_nor_had_a_turn() -> None:
    clock = Clock()
    turns = Turns(clock)
    for number, job in enumerate(["first", "second", *(f"job{number}" for number in range(MOST_JOBS))]):
        turns.begin(str(number), job, urgent=False)
        clock.now += 100 if job == "first" else 1
        turns.end(str(number))
    assert turns.ahead() == set(), "of those before nothing is remembered"
    turns.begin("x", "newest", urgent=False)
    clock.now += 20
    turns.end("x")
    assert turns.ahead() == {"newest"}
    for number in range(2 * MOST_BEGUN):
        turns.begin(f"lost{number}", "newest", urgent=False)
    assert len(turns._begun) == MOST_BEGUN, "pages that nobody ends: their connections were lost"


def test_nothing_is_lost_or_doubled_where_only_urgent_ones_wait(client: redis.Redis, settings: Settings) -> None:
    for index in range(3):
        send(settings, "quick", index, urgent=True)
    message = client.rpop(IMAGE_QUEUE)
    before = client.lrange(IMAGE_QUEUE, 0, -1)
    assert swap(client, IMAGE_QUEUE, message) is None and client.lrange(IMAGE_QUEUE, 0, -1) == before
    client.lpush(IMAGE_QUEUE, b"a patient one")
    assert swap(client, IMAGE_QUEUE, message) == b"a patient one"
    assert client.lrange(IMAGE_QUEUE, 0, -1) == [*before, message]


def test_a_page_that_lost_a_try_takes_its_turn(
    client: redis.Redis, settings: Settings, connection: Connection, clock: Clock
) -> None:
    """Before: one whose worker was gone came next, before all others, and was still urgent."""
    send(settings, "patient", 0)
    send(settings, "quick", 0, urgent=True)
    with connection.channel() as channel:
        taken = consume(channel)
        connection.drain_events(timeout=2)
        taken[0].reject(requeue=True)
        first, last = (json.loads(raw) for raw in reversed(client.lrange(IMAGE_QUEUE, 0, -1)))
        assert first["headers"]["id"] == "patient:0" and last["headers"]["id"] == "quick:0"
        assert MARK not in last["properties"]
        client.ltrim(IMAGE_QUEUE, 1, 0)
        send(settings, "patient", 1)
        client.hset(
            UNACKED, "gone", json.dumps([{**last, "properties": last["properties"] | {MARK: True}}, "", "ocrfleet"])
        )
        client.zadd(UNACKED_INDEX, {"gone": 1})
        channel.qos.restore_visible(interval=1)
    assert json.loads(client.rpop(IMAGE_QUEUE))["headers"]["id"] == "patient:1"
    assert MARK not in json.loads(client.rpop(IMAGE_QUEUE))["properties"]


@pytest.mark.parametrize(
    "target", [["", "evil"], ["evil", IMAGE_QUEUE], ["", 7], [None, None], ["", IMAGE_QUEUE, 3], []]
)
def test_what_goes_elsewhere_is_not_put_back(
    client: redis.Redis, connection: Connection, settings: Settings, target: list[object]
) -> None:
    """Before: a key outside the worker's ACL ended each look for lost messages there, with 60 lines in the log."""
    send(settings, "job", 0)
    message = json.loads(client.rpop(IMAGE_QUEUE))
    for tag, entry in (("a", [message, *target]), ("b", [message, "", IMAGE_QUEUE])):
        client.hset(UNACKED, tag, json.dumps(entry))
        client.zadd(UNACKED_INDEX, {tag: 1})
    with connection.channel() as channel:
        channel.qos.restore_visible(interval=1)
    assert client.llen(IMAGE_QUEUE) == 1 and not client.exists(UNACKED, UNACKED_INDEX, "evil")
    assert client.xlen(QUARANTINE_KEY) == 1 and client.hget(COUNTERS_KEY, "refused") == b"1"


def test_a_message_that_says_it_goes_elsewhere_is_refused(
    client: redis.Redis, settings: Settings, connection: Connection
) -> None:
    """Before: it ran, and where its child was killed the main process lost its connection over the ACL."""
    send(settings, "job", 0)
    message = json.loads(client.rpop(IMAGE_QUEUE))
    message["properties"]["delivery_info"]["routing_key"] = "evil"
    client.lpush(IMAGE_QUEUE, json.dumps(message))
    with connection.channel() as channel:
        taken = consume(channel)
        connection.drain_events(timeout=2)
    assert not taken and client.xlen(QUARANTINE_KEY) == 1 and not client.exists(UNACKED)


def test_what_cannot_be_taken_has_no_turn(connection: Connection, clock: Clock) -> None:
    """Before: nobody ended it, and the main process kept its tag for its life."""
    channel, tag = connection.default_channel, "\ud83d" * 60
    delivery = {"exchange": "", "routing_key": IMAGE_QUEUE}
    raw = {"body": "", "headers": {"id": "job:0"}, "properties": {"delivery_tag": tag, "delivery_info": delivery}}
    with pytest.raises(UnicodeEncodeError):
        channel.qos.append(channel.Message(raw, channel=channel), tag)
    assert not channel_module._turns._begun
