"""What a worker's main process does with the connection on which it hears broadcasts, against a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from unittest import mock

import pytest
import redis
from kombu import Connection, Consumer
from kombu.common import Broadcast

from worker.app import BROADCAST_QUEUE, app_for
from worker.celery_ext.channel import FleetChannel
from worker.celery_ext.consumer import FleetConsumer
from worker.settings import Settings


@pytest.fixture
def listening(settings: Settings) -> Iterator[FleetChannel]:
    """A channel that has said what it listens to, and has had the answers."""
    consumer = FleetConsumer.__new__(FleetConsumer)  # its constructor wants a whole worker
    consumer.app = app_for(settings)
    connection: Connection = consumer.connection_for_read()
    queues = [Broadcast(BROADCAST_QUEUE)]
    with connection, connection.channel() as channel, Consumer(channel, queues, accept=["json"]):
        hear(channel)
        yield channel


def hear(channel: FleetChannel) -> None:
    """Subscribe, as kombu's loop does before it waits, and take the answers."""
    channel.connection.cycle._register_LISTEN(channel)
    time.sleep(0.1)
    channel._receive()


@pytest.mark.timeout(20)
def test_it_waits_for_nothing(listening: FleetChannel, client: redis.Redis) -> None:
    """Before: an event of a socket that was closed, and the main process stood in a read without a limit."""
    assert not listening._receive()
    listening.subclient.connection.disconnect()
    assert not listening._receive(), "kombu will subscribe anew"
    hear(listening)
    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    time.sleep(0.1)
    with pytest.raises(redis.ConnectionError):
        listening._receive()


def test_it_asks_nothing_while_it_reads_no_answers(listening: FleetChannel) -> None:
    listener = listening.subclient
    listener.connection.health_check_interval, listener.connection.next_health_check = 1, 0
    with mock.patch.object(listening.qos, "can_consume", lambda: False):  # a page runs
        listener.check_health()
    assert listener.health_check_response_counter == 0
    listener.check_health()
    assert listener.health_check_response_counter == 1
    listener.connection.next_health_check = float("inf")
    time.sleep(0.1)
    listening._receive()
    assert listener.health_check_response_counter == 0


def test_giving_up_a_lost_listener_is_a_lost_connection(listening: FleetChannel) -> None:
    """Before: kombu asked None for its host name (AttributeError), and the main process ended over a lost broker."""
    del listening.subclient
    listening._async_pool = None  # both as kombu leaves them
    with mock.patch.object(listening.connection, "client", None), pytest.raises(redis.ConnectionError, match="lost"):
        listening.basic_cancel(next(iter(listening._tag_to_queue)))
