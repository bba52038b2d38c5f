"""Keys of ours that hold another type: whoever has a worker's password may write them, and Redis refuses to read them.

One job's damage must not keep the others from being looked after.
"""

from __future__ import annotations

from typing import Any

import redis

from worker.broker.connection import takes_no_writes

_DAMAGE = ("WRONGTYPE", "user_script", "not an integer", "not a valid float")


def is_damage(error: redis.RedisError) -> bool:
    """Whether a step failed over what stands in a key, and not over the broker's state, which a script names too."""
    return not takes_no_writes(error) and any(words in str(error) for words in _DAMAGE)


def is_damage_of_its_own(error: Exception) -> bool:
    """`is_damage`, where a job may be begun again for it: not over what a user may not do, or a script that was ended.

    Redis 7 names the script there as well.
    """
    refused = any(words in str(error) for words in ("The user executing the script", "NOPERM", "killed"))
    return isinstance(error, redis.ResponseError) and is_damage(error) and not refused


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
