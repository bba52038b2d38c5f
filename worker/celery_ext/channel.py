"""kombu's Redis channel as a worker's main process needs it: quick, and not killed by a Redis that takes no writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from redis import ConnectionError as RedisConnectionError
from redis import Redis, ResponseError

from worker.broker.connection import takes_no_writes


@contextmanager
def unless_refused() -> Iterator[None]:
    """Does what is inside, or nothing if Redis takes no writes."""
    try:
        yield
    except ResponseError as error:
        if not takes_no_writes(error):
            raise


class FleetQoS(kombu_redis.QoS):
    """kombu's list of messages in hand (``unacked``), kept as far as Redis allows.

    A full Redis refuses whatever may grow, and every transaction; one whose disk is full refuses every change. To
    Celery that is an "unrecoverable error": the worker would end, and its successors one by one. The ledger knows of
    every page, so what cannot be written here costs a page that is sent again at worst (reconcile.py). The child
    meanwhile waits (PatientLedger).
    """

    def append(self, message: Any, delivery_tag: str) -> None:
        with unless_refused():
            return super().append(message, delivery_tag)
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        with unless_refused():
            return super().ack(delivery_tag)
        with unless_refused(), self.channel.conn_or_acquire() as client:
            # One by one, a full Redis allows removals.
            client.zrem(self.unacked_index_key, delivery_tag)
            client.hdel(self.unacked_key, delivery_tag)
        virtual.QoS.ack(self, delivery_tag)

    def restore_by_tag(self, tag: str, client: Redis | None = None, leftmost: bool = False) -> None:
        with unless_refused():  # it stays in ``unacked``, until its visibility timeout at most
            super().restore_by_tag(tag, client, leftmost)

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        with unless_refused():  # the lock it takes; it comes again in seconds
            super().restore_visible(start, num, interval)


class FleetChannel(kombu_redis.Channel):
    """With :class:`FleetQoS`, and one client object for the channel's life.

    kombu makes one for every message it takes and one for every acknowledgement, while the child waits: a quarter of
    a millisecond an image. Such an object holds nothing but the pool of connections, which is the same each time.
    """

    QoS = FleetQoS
    _own_client: Redis | None = None

    @contextmanager
    def conn_or_acquire(self, client: Redis | None = None) -> Iterator[Redis]:
        if client is None:
            # After a lost broker Celery closes the connection, and kombu then takes this channel's transport apart.
            # A message of before that is acknowledged or put back over it now would ask None for its host name:
            # an AttributeError, which ends the main process. A lost connection is what it is, and what Celery expects.
            if self.connection is None or self.connection.client is None:
                raise RedisConnectionError("this channel's connection was lost; the broker keeps its messages")
            # kombu drops its pool when it loses the broker.
            if self._own_client is None or self._own_client.connection_pool is not self.pool:
                self._own_client = self._create_client()
            client = self._own_client
        yield client

    def maybe_refresh_binding_expiry(self) -> None:
        with unless_refused():  # of the broadcast queue; kombu would log a traceback and try again too
            super().maybe_refresh_binding_expiry()
