"""Redis' clock: what machines compare is told by one clock, since their own may be a day apart."""

from __future__ import annotations

import redis


def redis_now(client: redis.Redis) -> float:
    """Unix time by the broker's clock, seconds.

    Raises:
        redis.RedisError: no answer.
    """
    seconds, micros = client.time()
    return float(seconds) + float(micros) / 1e6
