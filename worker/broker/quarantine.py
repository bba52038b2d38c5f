"""What was read from Redis and is none of ours: kept for people to look at, counted, never tried again."""

from __future__ import annotations

import logging

import redis

from worker.log_format import FewOfEach
from worker.redis_keys import COUNTERS_KEY, QUARANTINE_KEY

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
    entry = {"at": where, "reason": reason, "raw": raw[:KEPT_BYTES]}
    try:
        pipe = client.pipeline(transaction=False)
        pipe.xadd(QUARANTINE_KEY, entry, maxlen=KEEP, approximate=True)
        pipe.expire(QUARANTINE_KEY, KEPT_S)
        pipe.hincrby(COUNTERS_KEY, REFUSED_COUNTER, 1)
        pipe.execute()
    except redis.RedisError as error:
        logger.warning("could not keep it: %s", error)
