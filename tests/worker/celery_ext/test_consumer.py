"""What the Celery worker process changes of Celery's and kombu's ways, against a real server."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from unittest import mock

import pytest
import redis
from kombu import Connection, Consumer, Message, Queue

from worker.app import IMAGE_QUEUE, app_for
from worker.broker import queue
from worker.celery_ext.channel import FleetChannel
from worker.celery_ext.consumer import FleetConsumer
from worker.messages import ImageTask
from worker.settings import Settings


@pytest.fixture
def connection(settings: Settings) -> Connection:
    """The connection over which a worker takes its messages."""
    consumer = FleetConsumer.__new__(FleetConsumer)  # its constructor wants a whole worker
    consumer.app = app_for(settings)
    return consumer.connection_for_read()


def test_one_client_object_for_all_messages(connection: Connection) -> None:
    with connection, connection.channel() as channel:
        assert isinstance(channel, FleetChannel)
        with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
            assert first is second and first.ping()


def test_a_lost_broker_is_found_again(connection: Connection) -> None:
    with connection, connection.channel() as channel:
        with channel.conn_or_acquire() as before:
            before.ping()
        channel._disconnect_pools()
        with channel.conn_or_acquire() as after:
            assert after.ping()


def test_a_given_client_is_used(connection: Connection) -> None:
    with connection, connection.channel() as channel, channel.conn_or_acquire("given") as client:
        assert client == "given"


def test_messages_in_hand_while_the_broker_is_full(
    connection: Connection, settings: Settings, client: redis.Redis, set_full: Callable[[bool], None]
) -> None:
    for index in range(3):
        queue.send(app_for(settings), ImageTask(job="job", index=index, image="a", uri="file:///a"))
    taken: list[Message] = []
    with connection, connection.channel() as channel:
        channel.basic_qos(0, 1, False)
        consumer = Consumer(channel, [Queue(IMAGE_QUEUE)], accept=["json"])
        consumer.on_message = taken.append
        consumer.consume()

        def in_hand() -> tuple[int, int, bool]:
            """Taken and not acknowledged; what Redis knows of them; whether the next may be taken."""
            held = len(channel.qos._delivered) - len(channel.qos._dirty)
            return held, client.hlen(queue.UNACKED), channel.qos.can_consume()

        connection.drain_events(timeout=2)
        assert in_hand() == (1, 1, False)
        set_full(True)
        taken[0].ack()
        assert in_hand() == (0, 0, True), "one by one, a full Redis lets them go"
        connection.drain_events(timeout=2)
        assert in_hand() == (1, 0, False), "what Redis has no room for is in hand all the same"
        taken[1].ack()
        set_full(False)
        connection.drain_events(timeout=2)
        set_full(True)
        taken[2].reject(requeue=True)
        assert in_hand() == (0, 1, True), "it cannot be put back now, and stays for its visibility timeout"
        channel.qos.restore_visible(interval=1)
        set_full(False)
    assert len(taken) == 3


@pytest.mark.parametrize("ahead_s", [86400, -86400])
def test_messages_in_hand_by_the_brokers_clock(
    connection: Connection, settings: Settings, client: redis.Redis, ahead_s: int
) -> None:
    """Before: a worker a day ahead, killed, kept its message for a day, and put back what others were at work on."""
    real = time.time()
    queue.send(app_for(settings), ImageTask(job="job", index=0, image="a", uri="file:///a"))
    taken: list[Message] = []
    with mock.patch("time.time", lambda: real + ahead_s), connection, connection.channel() as channel:
        consumer = Consumer(channel, [Queue(IMAGE_QUEUE)], accept=["json"])
        consumer.on_message = taken.append
        consumer.consume()
        connection.drain_events(timeout=2)
        [(_, since)] = client.zrange(queue.UNACKED_INDEX, 0, -1, withscores=True)
        assert abs(since - real) < 60
        channel.qos.restore_visible(interval=1)
        assert client.hlen(queue.UNACKED) == 1 and client.llen(IMAGE_QUEUE) == 0
        taken[0].ack()


def test_other_errors_of_the_broker_are_errors(connection: Connection, client: redis.Redis) -> None:
    with connection, connection.channel() as channel:
        client.execute_command("ACL", "SETUSER", "default", "-zrem")
        try:
            with pytest.raises(redis.ResponseError, match="permission"):
                channel.qos.ack("tag")
        finally:
            client.execute_command("ACL", "SETUSER", "default", "+zrem")


@pytest.mark.parametrize("key", [queue.UNACKED, queue.UNACKED_INDEX, IMAGE_QUEUE])
def test_keys_of_another_type_are_dropped_and_messages_go_on(
    connection: Connection, settings: Settings, client: redis.Redis, key: str
) -> None:
    """Before: each was a broker that refuses, for good: the worker lived, and took nothing while the key stood."""
    taken: list[Message] = []
    with connection, connection.channel() as channel:
        consumer = Consumer(channel, [Queue(IMAGE_QUEUE)], accept=["json"])
        consumer.on_message = taken.append
        client.set(key, "x")
        consumer.consume()
        queue.send(app_for(settings), ImageTask(job="job", index=0, image="a", uri="file:///a"))
        connection.drain_events(timeout=2)
        for step in (taken[0].ack, lambda: channel.qos.restore_visible(interval=1), lambda: channel.qos.reject("t")):
            client.delete(key)
            client.set(key, "x")
            step()
        with suppress(TimeoutError):  # nothing is there, which is no error
            connection.drain_events(timeout=0.1)
        queue.send(app_for(settings), ImageTask(job="job", index=1, image="a", uri="file:///a"))
        connection.drain_events(timeout=2)
    assert (len(taken) == 2 and not client.exists(key)) or client.type(key) != b"string"
