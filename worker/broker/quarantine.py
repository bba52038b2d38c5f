"""What was read from Redis and is none of ours: kept for people to look at, counted, never tried again."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import redis

from worker.log_format import FewOfEach
from worker.redis_keys import COUNTERS_KEY, QUARANTINE_KEY, number_in

logger = logging.getLogger(__name__)
logger.addFilter(FewOfEach())  # of some hundred a second that somebody sends the last are kept, and all are counted
KEEP = 200
KEPT_BYTES = 8192
KEPT_S = 30 * 24 * 3600
REFUSED_COUNTER = "refused"


def quarantine(client: redis.Redis, raw: bytes, where: str, reason: str) -> None:
    """Log, count and keep something that was refused. Never raises for a broker that has no room for it.

    Args:
        client: connection to the broker.
        raw: what was read.
        where: a queue's or a key's name.
        reason: why it was refused.
    """
    logger.error("refused a message from %s: %s (kept in %s)", where, reason, QUARANTINE_KEY)
    entry: dict[str, str | bytes] = {"at": where, "reason": reason, "raw": raw[:KEPT_BYTES]}
    try:
        keep_latest(client, QUARANTINE_KEY, entry, KEEP, KEPT_S)
        _count(client)
    except redis.RedisError as error:
        logger.warning("could not keep it: %s", error)


def _count(client: redis.Redis) -> None:
    try:
        found = client.hincrby(COUNTERS_KEY, REFUSED_COUNTER, 1)
    except redis.ResponseError as error:
        if not any(said in str(error) for said in ("not an integer", "overflow")):
            raise
        found = 0
    if number_in(b"%d" % found) in (None, 0):
        client.hset(COUNTERS_KEY, REFUSED_COUNTER, 1)


def keep_latest(client: redis.Redis, key: str, entry: Mapping[str, str | bytes], most: int, kept_s: int) -> None:
    """Add to a stream of which people see the latest. One into which somebody put the last id there is begins anew.

    Args:
        client: connection to the broker.
        key: the stream.
        entry: its fields.
        most: entries that stay, about.
        kept_s: how long all stay after the last one, seconds.

    Raises:
        redis.RedisError: the broker is full, or away.
    """
    try:
        client.xadd(key, dict(entry), maxlen=most, approximate=True)
    except redis.ResponseError as error:  # of Redis 7, and of 6.2
        if not any(said in str(error) for said in ("exhausted the last", "equal or smaller")):
            raise
        client.unlink(key)
        client.xadd(key, dict(entry), maxlen=most, approximate=True)
    client.expire(key, kept_s)
