"""Keys of ours that hold another type: whoever has a worker's password may write them, and Redis refuses to read them.

One job's damage must not keep the others from being looked after.
"""

from __future__ import annotations

from typing import Any

import redis

from worker.redis_keys import JobKeys

_TYPES = JobKeys("hash", "string", "hash", "hash", "hash", "zset", "stream", "hash", "hash", "string")


def damaged_key(client: redis.Redis, job: str) -> str:
    """The first key of a job that holds what is not ours; "" if none does."""
    keys = JobKeys.of(job)
    pipe = client.pipeline(transaction=False)
    for key in keys:
        pipe.type(key)
    found = (kind.decode() for kind in pipe.execute())
    return next((key for key, kind, ours in zip(keys, found, _TYPES, strict=True) if kind not in ("none", ours)), "")


def is_damage(error: redis.RedisError) -> bool:
    """Whether a step failed over what stands in a key, and not over the broker's state."""
    return any(words in str(error) for words in ("WRONGTYPE", "user_script", "not an integer", "not a valid float"))


def replies(pipe: Any) -> list[Any]:
    """A pipeline's replies, None for each key of another type.

    Raises:
        redis.RedisError: as `execute` does for all else.
    """
    found = pipe.execute(raise_on_error=False)
    for place, reply in enumerate(found):
        if isinstance(reply, Exception):
            if "WRONGTYPE" not in str(reply):
                raise reply
            found[place] = None
    return list(found)
