"""What the Celery worker process changes of Celery's and kombu's ways, against a real server."""

from __future__ import annotations

import pytest
from kombu import Connection

from worker.app import app_for
from worker.consumer import FleetChannel, FleetConsumer
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


def test_a_lost_broker_gives_a_new_client(connection: Connection) -> None:
    with connection, connection.channel() as channel:
        with channel.conn_or_acquire() as before:
            pass
        channel._disconnect_pools()
        with channel.conn_or_acquire() as after:
            assert after is not before and after.ping()


def test_a_given_client_is_used(connection: Connection) -> None:
    with connection, connection.channel() as channel, channel.conn_or_acquire("given") as client:
        assert client == "given"
