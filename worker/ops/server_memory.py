"""What Redis holds beside keys: it counts against ``maxmemory``, ends with no TTL, and no DEL frees it.

Whoever may run scripts may load them: 260 of 1 MiB, and Redis took no page until it was started anew. What was refused
(ACL LOG), was slow (SLOWLOG) or failed (errorstats) is noted with names of up to 80 MB, also of clients long gone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import redis

from detector.errors import first_line

logger = logging.getLogger(__name__)
MOST_SCRIPTS = 16 << 20
"""Bytes of scripts' text. Ours are 60 KB; each is loaded again where it is missing (NOSCRIPT), in the middle of a job
too."""
NEARLY_FULL = 0.8
_NOTES = (("ACL", "LOG", "RESET"), ("SLOWLOG", "RESET"), ("CONFIG", "RESETSTAT"))


def script_bytes(info: Mapping[str, Any]) -> int:
    """Of the text of all scripts.

    Args:
        info: INFO, or its part on memory. Redis 6.2 and Valkey name it alike.
    """
    return int(info.get("used_memory_scripts", 0))


def is_nearly_full(info: Mapping[str, Any]) -> bool:
    """Whether Redis has used most of its ``maxmemory``."""
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    return bool(limit) and used > NEARLY_FULL * limit


def free_what_is_no_key(client: redis.Redis) -> None:
    """Drop scripts of a stranger's size, and, of a Redis that is nearly full, what it noted. Says so.

    Notes stay where there is room: somebody may want to read them.
    """
    if script_bytes(client.info("memory")) > MOST_SCRIPTS:
        _do(client, "SCRIPT", "FLUSH", "SYNC")
    if is_nearly_full(client.info("memory")):
        for command in _NOTES:
            _do(client, *command)


def _do(client: redis.Redis, *command: str) -> None:
    was = int(client.info("memory")["used_memory"])
    words = " ".join(command)
    try:
        client.execute_command(*command)
    except redis.ResponseError as error:  # a managed Redis may not know it at all
        remedy = "load deploy/redis/users.acl anew, or do it as an administrator"
        logger.error("Redis refused %s (%s): %s", words, first_line(error), remedy)
        return
    freed = was - int(client.info("memory")["used_memory"])
    if freed > MOST_SCRIPTS:
        logger.error(
            "%s freed %.0f MB that were no keys: somebody filled Redis; change the passwords", words, freed / 1e6
        )
