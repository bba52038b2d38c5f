"""kombu's Redis channel as a worker's main process needs it: quick, and hard to kill.

Neither a Redis that takes no writes, or restarts, nor a message that is none ends the process.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property, partial
from queue import Empty
from typing import Any

from celery.worker import state
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from redis import ConnectionError as RedisConnectionError
from redis import Redis, RedisError, ResponseError
from redis import TimeoutError as RedisTimeoutError
from redis.commands.core import Script

from worker.app import BROADCAST_QUEUE, IMAGE_QUEUE
from worker.broker import takes_no_writes
from worker.broker.clock import redis_now
from worker.broker.locks import let_lapse
from worker.broker.quarantine import quarantine
from worker.broker.queue import held_by
from worker.broker.sending import PlainQoS, read_envelope
from worker.broker.short_replies import MOST_BYTES, TooLong
from worker.broker.urgent import MARK
from worker.broker.wrong_types import drop_wrong_types, is_wrong_type
from worker.celery_ext.listening import ListeningChannel
from worker.celery_ext.message_shape import is_to_images, wrong_broadcast, wrong_control, wrong_image, wrong_shape
from worker.celery_ext.turns import Turns, swap
from worker.ops import life_signs
from worker.process_identity import identity

logger = logging.getLogger(__name__)

BROKERS_ERRORS = (RedisError, OSError)
"""Not kombu's `connection_errors`, which have KeyError: what lacked a key had workers connect anew for ever."""


@contextmanager
def unless_refused() -> Iterator[None]:
    """Does what is inside, or nothing if Redis takes no writes, or over a key of another type, which was dropped."""
    try:
        yield
    except ResponseError as error:
        if not takes_no_writes(error) and not is_wrong_type(error):
            raise


# Takes a message into ``unacked``: kombu's own two commands, but the time is Redis'. A worker whose clock is a day
# ahead would keep its messages for a day after its death.
_TAKE = """
if redis.replicate_commands then redis.replicate_commands() end
local now = redis.call('TIME')
redis.call('ZADD', KEYS[1], now[1] + now[2] / 1e6, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
"""
# Of this main process, which outlives every connection; a successor on this machine sees by it that this one is gone.
_holder = cache(identity)
# Of a task that beat sends: what comes by PUBLISH is not taken one at a time, but held until the child is free.
MOST_OF_A_BROADCAST = 2
# More than this many at once wait for the next sweep, seconds later.
RESTORE_AT_ONCE = 100
# Of this process: it outlives connections too.
_turns = Turns()


class FleetQoS(PlainQoS):
    """kombu's list of messages in hand (``unacked``), kept as far as Redis allows, by Redis' clock.

    A full Redis refuses whatever may grow, and every transaction; one whose disk is full refuses every change. To
    Celery that is an "unrecoverable error": the worker would end, and its successors one by one. The ledger knows of
    every page, so what cannot be written here costs a page that is sent again at worst (reconcile.py). The child
    meanwhile waits (PatientLedger).
    """

    def append(self, message: Any, delivery_tag: str) -> None:
        info = message.delivery_info
        entry = json.dumps([held_by(message._raw, _holder()), info["exchange"], info["routing_key"]])
        with unless_refused(), self.channel.conn_or_acquire() as client:
            _settle_late(self, client)
            self.channel.take(
                keys=[self.unacked_index_key, self.unacked_key], args=[delivery_tag, entry], client=client
            )
        virtual.QoS.append(self, message, delivery_tag)
        # After all that may raise: nobody ends the turn of what was not taken.
        if info["exchange"] != BROADCAST_QUEUE:
            job = str(message.headers.get("id", "")).rpartition(":")[0]
            _turns.begin(delivery_tag, job, urgent=bool(message._raw["properties"].get(MARK)))

    def ack(self, delivery_tag: str) -> None:
        _turns.end(delivery_tag)
        if self.channel.lost:
            return self._settle_later(delivery_tag)
        try:
            self._ack(delivery_tag)
        except (RedisConnectionError, RedisTimeoutError):
            # Celery logs it and goes on, and would wait for ever for the message it still believes to have in hand.
            self._settle_later(delivery_tag)
            raise

    def _ack(self, delivery_tag: str) -> None:
        with unless_refused():
            return super().ack(delivery_tag)
        with unless_refused(), self.channel.conn_or_acquire() as client:
            # One by one, a full Redis allows removals.
            client.zrem(self.unacked_index_key, delivery_tag)
            client.hdel(self.unacked_key, delivery_tag)
        virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        _turns.end(delivery_tag)
        if self.channel.lost:
            # To be put back: the next connection sends it again (reconcile.py: hand_back).
            return self._settle_later(delivery_tag)
        if not requeue:
            return self._ack(delivery_tag)  # as kombu does, but where Redis refuses
        super().reject(delivery_tag, requeue)

    def _settle_later(self, delivery_tag: str) -> None:
        """The connection this message came by is gone, and its image is done with: the next one removes it."""
        _settled_late.append(delivery_tag)
        virtual.QoS.ack(self, delivery_tag)

    def restore_by_tag(self, tag: str, client: Redis | None = None, leftmost: bool = False) -> None:
        with unless_refused():  # it stays in ``unacked``, until its visibility timeout at most
            try:
                super().restore_by_tag(tag, client, leftmost)
            except BROKERS_ERRORS:
                raise
            except Exception as error:
                # No message: it would end every worker that comes across it.
                self._drop_garbage(tag, error)

    def _drop_garbage(self, tag: str | bytes, error: Exception) -> None:
        with self.channel.conn_or_acquire() as client:
            raw = client.hget(self.unacked_key, tag) or b""
            quarantine(client, raw, self.unacked_key, f"not a message ({type(error).__name__}: {error})")
            client.zrem(self.unacked_index_key, tag)
            client.hdel(self.unacked_key, tag)

    def restore_visible(self, start: int = 0, num: int | None = None, interval: int = 10) -> None:
        """kombu's own, by Redis' clock, and put off while the connection is lost."""
        self._vrestore_count += 1
        if (self._vrestore_count - 1) % (interval or 1) or self.channel.lost:
            return
        with unless_refused(), self.channel.conn_or_acquire() as client:  # refused: the lock; it comes again in seconds
            ceiling = redis_now(client) - self.visibility_timeout
            try:
                with kombu_redis.Mutex(client, self.unacked_mutex_key, self.unacked_mutex_expire):
                    visible = client.zrangebyscore(
                        self.unacked_index_key, 0, ceiling, start=0, num=num or RESTORE_AT_ONCE
                    )
                    for tag in visible:
                        self.restore_by_tag(tag, client)
            except kombu_redis.MutexHeld:
                let_lapse(client, self.unacked_mutex_key, self.unacked_mutex_expire)


def _written(raw: object) -> bytes:
    """What was read, as JSON for the quarantine."""
    try:
        return json.dumps(raw).encode()
    except RecursionError:  # what was just not too deep to be read; nobody would catch it, and the worker would end
        return b"lists in lists"


def _held(task: str) -> int:
    """How many of a task were taken and are not done."""
    return sum(request.name == task for request in state.reserved_requests)


# Messages that were done with while their connection was lost; of this process, whose next channel removes them.
_settled_late: list[str] = []


def _settle_late(qos: FleetQoS, client: Redis) -> None:
    if _settled_late:
        client.zrem(qos.unacked_index_key, *_settled_late)
        client.hdel(qos.unacked_key, *_settled_late)
        _settled_late.clear()


class FleetChannel(ListeningChannel):
    """With :class:`FleetQoS`, and one client object for the channel's life.

    kombu makes one for every message it takes and one for every acknowledgement, while the child waits: a quarter of
    a millisecond an image. Such an object holds nothing but the pool of connections, which is the same each time.
    """

    QoS = FleetQoS
    _own_client: Redis | None = None

    @cached_property
    def take(self) -> Script:
        """Puts a message in ``unacked``."""
        return self.client.register_script(_TAKE)

    @contextmanager
    def conn_or_acquire(self, client: Redis | None = None) -> Iterator[Redis]:
        if client is None:
            # After a lost broker Celery closes the connection, and kombu then takes this channel's transport apart.
            # A message of before that is acknowledged or put back over it now would ask None for its host name:
            # an AttributeError, which ends the main process. A lost connection is what it is, and what Celery expects.
            if self.lost:
                raise RedisConnectionError("this channel's connection was lost; the broker keeps its messages")
            # kombu drops its pool when it loses the broker.
            if self._own_client is None or self._own_client.connection_pool is not self.pool:
                self._own_client = self._create_client()
            client = self._own_client
        yield client

    def _do_restore_message(
        self, payload: Any, exchange: object, routing_key: object, pipe: Any, leftmost: bool = False
    ) -> None:
        """kombu's own, but a page that lost a try takes its turn behind what waits, and is not urgent any more.

        Raises:
            ValueError: it is none of a worker's: its routing key may lie outside the ACL, which ended each look.
        """
        if exchange == BROADCAST_QUEUE:
            return  # beat sends it again
        if not is_to_images(exchange, routing_key):
            raise ValueError("it goes to another queue")
        payload["properties"].pop(MARK, None)
        super()._do_restore_message(payload, exchange, routing_key, pipe, leftmost=True)

    def basic_consume(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        result = super().basic_consume(queue, *args, **kwargs)
        callbacks = self.connection._callbacks
        callbacks[queue] = partial(self._deliver_checked, queue, callbacks[queue])
        return result

    def _deliver_checked(self, queue: str, deliver: Callable[[Any], Any], raw: Any) -> Any:
        """Give a message to Celery, unless it is none; whatever it raises there ends the message, not the worker."""
        exchange, _ = self._fanout_queues.get(queue, ("", None))
        check = wrong_broadcast if exchange == BROADCAST_QUEUE else wrong_control if exchange else wrong_image
        if reason := check(raw):
            return self._refuse(queue, _written(raw), reason)
        if exchange == BROADCAST_QUEUE and _held(raw["headers"]["task"]) >= MOST_OF_A_BROADCAST:
            return None  # the child is busy: what is held does for this one too
        try:
            return deliver(raw)
        except BROKERS_ERRORS:
            raise
        except Exception as error:
            logger.exception("a message from %s raised in Celery", queue)
            tag = raw["properties"]["delivery_tag"] if not wrong_shape(raw) else None
            if tag is not None and tag in self.qos._delivered and tag not in self.qos._dirty:
                self.qos.reject(tag)
            return self._refuse(queue, _written(raw), f"{type(error).__name__}: {error}")

    def _receive_one(self, c: Any) -> Any:
        """kombu's own, for broadcasts; what is no message is dropped, of which kombu catches the half."""
        try:
            return super()._receive_one(c)
        except (*BROKERS_ERRORS, Empty):
            raise
        except Exception as error:
            logger.error("a broadcast that is no message was dropped (%s)", type(error).__name__)
            return True

    def _refuse(self, queue: str, raw: bytes, reason: str) -> None:
        if queue == IMAGE_QUEUE:
            life_signs.tell(life_signs.WORKS)  # it takes none while its child is busy
        with self.conn_or_acquire() as client:
            quarantine(client, raw, queue, reason)

    def _whose_turn(self, queue: str, item: bytes) -> bytes:
        """What was taken from a queue, or what goes before it by now."""
        if queue != IMAGE_QUEUE or not _turns.should_wait(item):
            return item
        with unless_refused(), self.conn_or_acquire() as client:
            if (other := swap(client, queue, item, _turns.ahead())) is not None:
                return other
        _turns.nobody_waits(item)
        return item

    def _popped(self, **options: Any) -> tuple[bytes, bytes] | None:
        try:
            return super()._popped(**options)
        except ResponseError as error:
            with self.conn_or_acquire() as client:
                if not is_wrong_type(error) or not drop_wrong_types(client):
                    raise
            return None

    def _taken(self, queue: str, item: bytes) -> None:
        """What is no JSON, or too long, is refused."""
        if isinstance(item, TooLong):
            return self._refuse(queue, item, f"over {MOST_BYTES >> 10} KiB")
        item = self._whose_turn(queue, item)
        try:
            message = read_envelope(item)
        except ValueError as error:
            return self._refuse(queue, item, f"not JSON ({type(error).__name__})")
        self.connection._deliver(message, queue)
