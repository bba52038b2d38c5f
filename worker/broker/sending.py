"""kombu's Redis channel for all of our programs: what is in Redis neither fills its memory nor says where pages go.

kombu asks a set in Redis at each message which queues it goes to (`_kombu.binding.*`). Whoever has a password may add
to it: a member of 200 MB, or a hundred thousand queues of his own, each of which would get every page. Ours go to one
queue, to all who listen, or to who waits for an answer: there are no such sets, so no names shared with other apps.
"""

from __future__ import annotations

from typing import Any

from celery.app.amqp import AMQP
from kombu.connection import Connection, ConnectionPool, PooledConnection
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

from worker.app import CONTROL_EXCHANGE, IMAGE_QUEUE, REPLY_EXCHANGE, REPLY_LISTS
from worker.broker.connection import ANSWER_S
from worker.broker.fitness import OLD_USERS, BrokerUnfitError
from worker.broker.short_replies import Bounds, short_replies
from worker.broker.wrong_types import MendingRedis

SENT_S = 30.0


class PlainMessage(virtual.Message):
    """Nothing where it is packed, as none of ours is: kombu unpacks it, of whatever length, before anybody looks at it.

    An event of 400 KB was 300 MB in Flower, and a command another one than was looked at.
    """

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        headers = payload.get("headers") if isinstance(payload, dict) else None
        if isinstance(headers, dict) and headers.get("compression"):
            payload = {**payload, "body": "", "headers": {**headers, "compression": None}}
        super().__init__(payload, channel, **kwargs)  # type: ignore[no-untyped-call]


class SendingChannel(kombu_redis.Channel):
    """Pages go to their one queue; replies are short, and not packed."""

    Message = PlainMessage

    @property
    def lost(self) -> bool:
        """Whether Celery has closed the connection this channel belonged to."""
        return self.connection is None or self.connection.client is None

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        """Of every connection kombu makes.

        Raises:
            redis.ConnectionError: Celery has closed the connection this channel belonged to. kombu would ask None for
                its host name, also where the main process only gives its listener up after a lost broker: an
                AttributeError, which ends it.
        """
        if self.lost:
            raise RedisConnectionError("this channel's connection was lost; the broker keeps its messages")
        params: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[no-untyped-call]
        # kombu has no timeout. What waits (BRPOP, PSUBSCRIBE) is read once there is something to read.
        seconds = ANSWER_S if asynchronous else SENT_S
        return {
            **params,
            "socket_timeout": params["socket_timeout"] or seconds,
            "connection_class": short_replies(params["connection_class"], Bounds(seconds=seconds)),
        }

    def _get_client(self) -> type[MendingRedis]:
        """What kombu's commands go through."""
        return MendingRedis

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> list[str]:
        """The queues of a message, without a question to Redis; none, where it is neither a page nor an answer."""
        if routing_key == IMAGE_QUEUE and exchange in ("", IMAGE_QUEUE):
            return [IMAGE_QUEUE]
        # Where pidbox's mailboxes wait. 60,000 queues bound to one key kept a worker, by one ping, for a minute.
        return [f"{REPLY_LISTS}{routing_key}"] if exchange == REPLY_EXCHANGE else []

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """kombu's, which writes it to Redis as well."""
        if self.typeof(exchange).type == "fanout":  # type: ignore[no-untyped-call]
            self._fanout_queues[queue] = (exchange, routing_key.replace("#", "*"))

    def maybe_refresh_binding_expiry(self) -> None:
        """Nothing: there is none in Redis. kombu calls it each second, and would sweep those of every app, too."""

    def _delete(self, queue: str, *args: Any, client: Any = None, **kwargs: Any) -> None:
        """kombu's, of a queue that one process has: its lists; there is no binding."""
        self.auto_delete_queues.discard(queue)
        with self.conn_or_acquire(client) as own:
            own.delete(*(self._q_for_pri(queue, step) for step in self.priority_steps))  # type: ignore[no-untyped-call]

    def _size(self, queue: str) -> int:
        """How much waits; kombu asks whenever it declares a queue, and only pages do."""
        return int(super()._size(queue)) if queue == IMAGE_QUEUE else 0  # type: ignore[no-untyped-call]

    def _put_fanout(self, exchange: str, message: Any, routing_key: str, **kwargs: Any) -> None:
        """kombu's PUBLISH.

        Raises:
            BrokerUnfitError: this user may not speak to workers.
        """
        try:
            super()._put_fanout(exchange, message, routing_key, **kwargs)  # type: ignore[no-untyped-call]
        except NoPermissionError:
            if exchange != CONTROL_EXCHANGE or routing_key:  # with a key it is where a stranger wants an answer
                raise
            raise BrokerUnfitError(f"the broker cannot be used: {OLD_USERS}") from None


class OurChannels:
    """Of our app's connections: another Celery app in this process keeps kombu's channel, and its bindings."""

    channel_class: type[SendingChannel] = SendingChannel
    """A worker's main process puts its own here (celery_ext/consumer.py)."""

    def create_transport(self) -> Any:
        """kombu's, which it makes anew after each lost connection."""
        transport = super().create_transport()  # type: ignore[misc]
        transport.Channel = self.channel_class
        return transport


class PooledFleetConnection(OurChannels, PooledConnection):
    """One that is kept for whoever sends."""


class FleetPool(ConnectionPool):
    """kombu's, which would make kombu's connections."""

    def new(self) -> PooledFleetConnection:
        """One more."""
        return PooledFleetConnection(  # type: ignore[no-untyped-call]
            self, **dict(self.connection._info(resolve=False))
        )


class FleetConnection(OurChannels, Connection):
    """What `app.connection_for_read()` and the like make."""

    def Pool(self, limit: int | None = None, **kwargs: Any) -> FleetPool:
        """Of connections like this one."""
        return FleetPool(self, limit, **kwargs)  # type: ignore[no-untyped-call]


class FleetAMQP(AMQP):  # type: ignore[misc]
    """`app.amqp`, where Celery looks for what makes its connections."""

    Connection = FleetConnection
