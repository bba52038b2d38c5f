"""Messages that are taken next: put at the end of the queue from which workers take, before what waits there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache

from celery import Celery
from kombu import Connection, Producer
from kombu.transport.redis import Channel


class NextChannel(Channel):
    """kombu puts at the left of a list and takes from its right; so does this, but for new messages."""

    def _put(self, queue: str, message: Mapping[str, object], **options: object) -> None:
        with self.conn_or_acquire() as client:
            client.rpush(queue, json.dumps(message))


@cache
def next_producer(app: Celery, url: str) -> Producer:
    """What sends urgent messages; one connection, kept.

    Args:
        app: its settings are used.
        url: of the broker, so that another broker gets another producer.
    """
    connection: Connection = app.connection_for_write()
    connection.transport.Channel = NextChannel
    producer: Producer = app.amqp.Producer(connection)
    return producer
