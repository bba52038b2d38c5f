"""Hashes, sorted sets and lists that are read whole, or from within a script: never more than ours can be.

Whoever may write to Redis may put 188 MB into one of them. Each reply, and each value in a script, is a copy there: two
readers of such a hash, or one script, took Redis above the limit where it is killed, and again after each restart. So
Redis is first asked how much a key takes (MEMORY USAGE copies nothing), and what is beyond any of ours is dropped.
Whoever put it there could have removed the key as well; workers, jobs and the ledger write theirs again, as they do
where a key holds another type (wrong_types.py). A server whose users are of a version before refuses the question:
there it is read as before.
"""

from __future__ import annotations

import logging
from typing import Any

import redis

logger = logging.getLogger(__name__)
MOST_STORED = 8 << 20
"""Bytes in Redis: a thousand workers' notes, or the messages that three thousand hold, or of 3,000 pages in flight."""

MOST_FIELDS = 1 << 14
MOST_QUEUED = 64 << 20
"""Bytes of a queue's list: a window is half a megabyte, 16,384 messages are 40."""

# For scripts: whether a key takes more than it may; then it is gone.
DROP_TOO_LARGE = """
if redis.replicate_commands then redis.replicate_commands() end  -- 6.2 refuses writes after MEMORY USAGE otherwise
local function is_too_large(key, most)
  local stored = redis.pcall('MEMORY', 'USAGE', key, 'SAMPLES', '0')
  return type(stored) == 'number' and stored > tonumber(most)
end
local function drop_too_large(key, most)
  if not is_too_large(key, most) then return false end
  redis.pcall('UNLINK', key)
  return true
end
"""

# KEYS 1: what is read.  ARGV: most bytes, most members, what counts them ('': nothing), the command, what follows the
# key. Returns {reply}, or {} if it was dropped: also what is of another type.
_READ = (
    DROP_TOO_LARGE
    + """
if drop_too_large(KEYS[1], ARGV[1]) then return {} end
if ARGV[3] ~= '' then
  local count = redis.pcall(ARGV[3], KEYS[1])
  if type(count) == 'number' and count > tonumber(ARGV[2]) then
    redis.pcall('UNLINK', KEYS[1])
    return {}
  end
end
local reply = redis.pcall(ARGV[4], KEYS[1], unpack(ARGV, 5))
if not reply.err then return {reply} end
if not string.find(reply.err, 'WRONGTYPE', 1, true) then return reply end
redis.pcall('UNLINK', KEYS[1])
return {}
"""
)


def read_hash(client: redis.Redis, key: str, most: int = MOST_STORED) -> dict[bytes, bytes]:
    """HGETALL. Empty if it was larger than any of ours: then it is gone.

    Args:
        client: connection to the broker.
        key: the hash's name.
        most: bytes that it may take in Redis.

    Raises:
        redis.RedisError: no answer.
    """
    found = _read(client, key, most, "HLEN", "HGETALL")
    return dict(zip(found[::2], found[1::2], strict=True))


def read_fields(client: redis.Redis, key: str) -> list[bytes]:
    """HKEYS; see :func:`read_hash`."""
    return _read(client, key, MOST_STORED, "HLEN", "HKEYS")


def read_values(client: redis.Redis, key: str) -> list[bytes]:
    """HVALS; see :func:`read_hash`."""
    return _read(client, key, MOST_STORED, "HLEN", "HVALS")


def read_scores(client: redis.Redis, key: str) -> dict[bytes, float]:
    """ZRANGE of all, with scores, the lowest first; see :func:`read_hash`."""
    found = _read(client, key, MOST_STORED, "ZCARD", "ZRANGE", 0, -1, "WITHSCORES")
    return {member: float(score) for member, score in zip(found[::2], found[1::2], strict=True)}


def read_queue(client: redis.Redis, key: str, start: int, end: int) -> list[bytes]:
    """LRANGE of a queue's list, of which more than `MOST_QUEUED` are nobody's; see :func:`read_hash`."""
    return _read(client, key, MOST_QUEUED, "", "LRANGE", start, end)


def _read(client: redis.Redis, key: str, most: int, count: str, *command: Any) -> list[bytes]:
    found = client.register_script(_READ)(keys=[key], args=[most, MOST_FIELDS, count, *command])
    if not found:
        logger.error("%a is none of ours, too large or of another type. It was dropped; change the passwords", key)
        return []
    members: list[bytes] = found[0]
    return members
