"""The names of all keys, for who may list them (`hub`)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import redis
from redis.exceptions import NoPermissionError

MOST_NAME = 4096
LONGEST_S = 3600.0
"""Of a look at all names: a server that lies has no end of them."""
_MAY_NOT = ("user executing the script can't", "ACL failure in script")  # Redis', and Valkey's

# ARGV: cursor, type ('': any), longest name.  Returns the next cursor and names. Not SCAN itself: a few names of 4 MB
# make a reply that no connection here takes. Of longer ones those that begin as ours do are removed at once.
_SCAN = """
if redis.replicate_commands then redis.replicate_commands() end
local found
if ARGV[2] == '' then found = redis.call('SCAN', ARGV[1], 'COUNT', 250)
else found = redis.call('SCAN', ARGV[1], 'COUNT', 250, 'TYPE', ARGV[2]) end
local names = {}
for _, name in ipairs(found[2]) do
  if #name <= tonumber(ARGV[3]) then names[#names + 1] = name
  elseif string.sub(name, 1, 9) == 'ocrfleet:' then redis.pcall('UNLINK', name) end
end
return {found[1], names}
"""


def key_names(client: redis.Redis, kind: str = "") -> Iterator[bytes]:
    """The names of all keys, of one type if it is given.

    Raises:
        NoPermissionError: this user may not SCAN.
        redis.ConnectionError: it went on for `LONGEST_S`.
    """
    script, cursor, until = client.register_script(_SCAN), b"0", time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        try:
            cursor, names = script(args=[cursor, kind, MOST_NAME])
        except redis.ResponseError as error:
            if any(phrase in str(error) for phrase in _MAY_NOT):
                raise NoPermissionError("this user may not list keys (SCAN)") from None
            raise
        yield from names
        if int(cursor) == 0:
            return
    raise redis.ConnectionError(f"it named keys for {LONGEST_S:.0f} s, without an end")


def size_of(client: redis.Redis, key: bytes) -> int:
    """What a key takes in Redis, bytes; 0 where this user may not ask."""
    try:
        return int(client.memory_usage(key, samples=0) or 0)
    except redis.ResponseError:  # users of the version before, or a name that is not ours
        return 0
