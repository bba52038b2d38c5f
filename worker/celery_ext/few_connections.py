"""kombu's Redis channel with as few connections as can be: small managed plans allow twenty or thirty.

kombu opens two or three for each channel, and Celery has a channel for messages, one for remote control, one for events
and one for what it sends: 9 connections a worker. Needed are 4: one that waits for messages (BRPOP), one that listens
(PSUBSCRIBE), one for whatever Celery's main process says, and the child's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kombu import Connection
from redis import ConnectionPool, Redis

from worker.app import app
from worker.broker.connection import impatient
from worker.broker.sending import SendingChannel


class ThriftyChannel(SendingChannel):
    """What is said over any channel of this process goes over one connection; only those that wait have their own."""

    @property
    def pool(self) -> ConnectionPool:
        """Of the main process, for everything but waiting."""
        shared: ConnectionPool = impatient(app.conf.ocrfleet_redis_url).connection_pool
        if self._pool is None:
            self._pool = shared
            # Where kombu makes a pool, it also does this.
            self.keyprefix_fanout = self.keyprefix_fanout.format(db=shared.connection_kwargs.get("db") or 0)
        return shared

    @property
    def client(self) -> Redis:
        """What waits for messages. kombu pings over it when a channel is made, also for one that will never wait."""
        if not self._registered:
            return self._create_client()
        if "client" not in self.__dict__:
            self.__dict__["client"] = self._create_client(asynchronous=True)
        client: Redis = self.__dict__["client"]
        return client

    def basic_consume(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        result = super().basic_consume(queue, *args, **kwargs)
        if queue in self.active_fanout_queues and self._in_listen:
            self._subscribe()  # kombu does when it begins to listen, and this channel does already
        return result


class LentChannel:
    """The consumer's channel, lent to Celery's remote control: it listens there too, and may not close it."""

    def __init__(self, channel: Any) -> None:
        """Lend this one."""
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def close(self) -> None:
        """It belongs to the connection."""


def lend_channels(connection: Connection) -> None:
    """Whoever asks this connection for a channel gets its first one."""
    make: Callable[[], Any] = connection.channel

    def channel() -> Any:
        first = connection._default_channel
        return make() if first is None else LentChannel(first)

    connection.channel = channel  # type: ignore[method-assign]
