"""Locks of the whole fleet in Redis. Each lapses, also one that somebody else wrote without an end, or for years."""

from __future__ import annotations

import redis

# KEYS 1: a lock.  ARGV: who wants it, seconds.  Returns who holds it now; it is renewed for its holder only.
HOLD = """
-- Not GET: of a value of a stranger's 190 MB each copy takes as much, and the next caller makes the next two.
local holder = redis.pcall('GETRANGE', KEYS[1], 0, 255)
if type(holder) == 'table' then redis.call('UNLINK', KEYS[1]) end  -- of another type
if type(holder) == 'table' or holder == '' then holder = false end
-- One without an end, or a late one, is nobody's of ours: it lapses too.
local left = redis.call('TTL', KEYS[1])
if holder and (left == -1 or left > tonumber(ARGV[2])) then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
if not holder then
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
  return ARGV[1]
end
if holder == ARGV[1] then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return holder
"""

# KEYS 1: a lock.  ARGV: who gives it back. Somebody else's lock stays.
RELEASE = """
if redis.pcall('GETRANGE', KEYS[1], 0, 255) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


def take(client: redis.Redis, key: str, owner: str, seconds: float) -> bool:
    """Take a lock that nobody holds. Returns whether it is the caller's now.

    Args:
        client: connection to the broker.
        key: the lock's.
        owner: for people who look.
        seconds: until it lapses.

    Raises:
        redis.RedisError: no answer, or it takes no writes.
    """
    if client.set(key, owner, nx=True, px=max(1, int(seconds * 1000))):
        return True
    let_lapse(client, key, seconds)
    return False


def let_lapse(client: redis.Redis, key: str, seconds: float) -> None:
    """Give a lock that somebody holds an end, if it has none, or one later than ours have.

    One `SET` without a TTL kept the whole fleet from looking for stranded pages, until somebody looked into Redis.

    Args:
        client: connection to the broker.
        key: the lock's, of whatever type.
        seconds: for how long it is taken at most.
    """
    most = max(1, round(seconds + 0.5))
    left = client.ttl(key)  # -1: for ever; -2: it has just lapsed
    if left == -1 or left > most:
        client.expire(key, most)
