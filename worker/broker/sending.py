"""kombu's Redis channel for all of our programs: what is in Redis neither fills its memory nor says where pages go.

kombu asks a set in Redis at each message which queues it goes to (`_kombu.binding.*`). Whoever has a password may add
to it: a member of 200 MB, or a hundred thousand queues of his own, each of which would get every page. Ours go to one
queue, to all who listen, or to who waits for an answer: there are no such sets, so no names shared with other apps.
"""

from __future__ import annotations

import logging
from queue import Empty
from typing import Any

from celery.app.amqp import AMQP
from kombu.connection import Connection, ConnectionPool, PooledConnection
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

from detector.errors import read_json
from worker.app import CONTROL_EXCHANGE, IMAGE_QUEUE, REPLY_EXCHANGE, REPLY_LISTS
from worker.broker.connection import ANSWER_S
from worker.broker.fitness import OLD_USERS, BrokerUnfitError
from worker.broker.short_replies import Bounds, short_replies
from worker.broker.wrong_types import MendingRedis

SENT_S = 30.0

logger = logging.getLogger(__name__)


def read_envelope(data: str | bytes) -> Any:
    """A message as it is in Redis, as JSON and nothing else; its body is text in it.

    kombu's reader makes dates, decimals and UUIDs of `{"__type__": "decimal", "__value__": "x"}`, by decoders that
    raise whatever they like: one PUBLISH of that ended each worker.

    Raises:
        ValueError: it is none.
    """
    return read_json(data if isinstance(data, str) else data.decode())


class PlainMessage(virtual.Message):
    """Nothing where it is packed, as none of ours is: kombu unpacks it, of whatever length, before anybody looks at it.

    An event of 400 KB was 300 MB in Flower, and a command another one than was looked at.
    """

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        headers = payload.get("headers") if isinstance(payload, dict) else None
        if isinstance(headers, dict) and headers.get("compression"):
            payload = {**payload, "body": "", "headers": {**headers, "compression": None}}
        super().__init__(payload, channel, **kwargs)  # type: ignore[no-untyped-call]


class PlainQoS(kombu_redis.QoS):
    """kombu's, which reads what waits to be acknowledged as plain JSON."""

    def restore_by_tag(self, tag: str, client: Redis | None = None, leftmost: bool = False) -> None:
        """kombu's own.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it is no message.
        """

        def restore(pipe: Any) -> None:
            held = pipe.hget(self.unacked_key, tag)
            pipe.multi()
            self._remove_from_indices(tag, pipe)  # type: ignore[no-untyped-call]
            if held:
                self.channel._do_restore_message(*_three(held), pipe, leftmost)

        with self.channel.conn_or_acquire(client) as own:
            own.transaction(restore, self.unacked_key)


def _text(said: str | bytes) -> str:
    return said if isinstance(said, str) else said.decode(errors="replace")


def _three(held: bytes) -> list[Any]:
    value = read_envelope(held)
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError("no message, exchange and routing key")
    return value


class SendingChannel(kombu_redis.Channel):
    """Pages go to their one queue; replies are short, plain JSON, and not packed."""

    Message = PlainMessage
    QoS = PlainQoS

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

    def _receive_one(self, c: Any) -> Any:
        """kombu's own, of plain JSON."""
        try:
            response = c.parse_response()
        except self.connection_errors:
            self._in_listen = False
            raise
        payload = self._handle_message(c, response) if isinstance(response, list | tuple) else {"type": ""}  # type: ignore[no-untyped-call]
        if not _text(payload["type"]).endswith("message") or not payload["data"]:
            return None
        channel = _text(payload["channel"])
        name = channel.partition(".")[2] if channel.startswith("/") else channel
        try:
            message = read_envelope(payload["data"])
        except ValueError:
            logger.warning("what is no message was dropped, from %.99r", channel)
            raise Empty from None
        return self._deliver_fanout_message(message, name.split("/", 1)[0])  # type: ignore[no-untyped-call]

    def _popped(self, **options: Any) -> tuple[bytes, bytes] | None:
        """What BRPOP brings: a list, and a message in it; None: it waited long enough."""
        try:
            found: tuple[bytes, bytes] | None = self.client.parse_response(self.client.connection, "BRPOP", **options)
        except self.connection_errors:
            self.client.connection.disconnect()
            raise
        return found

    def _brpop_read(self, **options: Any) -> bool:
        """kombu's own, of plain JSON."""
        try:
            if not (found := self._popped(**options)):
                raise Empty
            queue = found[0].decode().rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            self._taken(queue, found[1])
            return True
        finally:
            self._in_poll = False
            self._flush_brpop_reauth()  # type: ignore[no-untyped-call]

    def _taken(self, queue: str, item: bytes) -> None:
        try:
            message = read_envelope(item)
        except ValueError:
            logger.warning("what is no message was dropped, from %.99r", queue)
        else:
            self.connection._deliver(message, queue)

    def _restore(self, message: Any, leftmost: bool = False) -> None:
        """kombu's own, as the connection ends, by way of what reads plain JSON."""
        if self.ack_emulation:
            self.qos.restore_by_tag(message.delivery_tag, leftmost=leftmost)
        else:
            super()._restore(message)  # type: ignore[no-untyped-call]

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
