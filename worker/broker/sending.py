"""kombu's Redis channel for whoever sends pages: what is in Redis neither fills its memory nor says where they go.

kombu asks a set in Redis at each message which queues it goes to. Whoever has a password may add to it: a member of
200 MB, or a hundred thousand queues of his own, each of which would get every page.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kombu.transport import redis as kombu_redis
from redis.exceptions import ConnectionError as RedisConnectionError

from worker.app import IMAGE_QUEUE
from worker.broker.connection import ANSWER_S
from worker.broker.short_replies import Bounds, short_replies
from worker.broker.wrong_types import MendingRedis

REPLIES = "reply.celery.pidbox"
SENT_S = 30.0
MOST_QUEUES = 16
"""That one message goes to; ours go to one."""


class SendingChannel(kombu_redis.Channel):
    """Pages go to their one queue; replies are short."""

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
        """The queues of a message; of ours, and of answers to remote control, without a question to Redis."""
        if exchange == routing_key == IMAGE_QUEUE:
            return [IMAGE_QUEUE]
        if exchange == REPLIES:
            # Where pidbox's mailboxes wait. 60,000 queues bound to one key kept a worker, by one ping, for a minute.
            return [f"{routing_key}.{REPLIES}"]
        found: Collection[str] = super()._lookup(exchange, routing_key, default)  # type: ignore[no-untyped-call]
        return list(found)[:MOST_QUEUES]  # of a topic exchange it is a set

    def sweep_bindings(self, limit: int = 100) -> int:
        """Nothing: kombu's own deletes the bindings that any app on the database let lapse.

        Another's are its own to delete, and users.acl refuses it; of ours `ocr-worker cleanup` drops what is too large.
        """
        return 0


# For all that a process sends. A worker's main process puts its own in this place (celery_ext/consumer.py).
if kombu_redis.Transport.Channel is kombu_redis.Channel:
    kombu_redis.Transport.Channel = SendingChannel
