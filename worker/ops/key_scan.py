"""The names of all keys, for who may list them (`hub`)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import redis
from redis.exceptions import NoPermissionError

MOST_NAME = 4096
LONGEST_S = 3600.0
"""Of a look at all names: a server that lies has no end of them."""
_MAY_NOT = ("user executing the script can't", "ACL failure in script")  # Redis', and Valkey's

# Not SCAN itself: a few names of 4 MB make a reply that no connection here takes. And a step looks at 250 places of the
# table one by one, and ends after long names with what Lua held of them given back: 14 of 18 MB, met at once, took a
# Redis of 256 MB to 1 GB (now half of it), where its container has 512 MB.
_EACH = """
if redis.replicate_commands then redis.replicate_commands() end
local cursor, held = ARGV[1], 0
local function step(look, ...)
  local found = redis.call('SCAN', cursor, 'COUNT', 1, ...)
  cursor = found[1]
  for _, name in ipairs(found[2]) do
    held = held + #name
    look(name)
  end
end
local function each(look, ...)
  for _ = 1, 250 do
    step(look, ...)
    if cursor == '0' then return end
    if held > 1048576 then return collectgarbage() end
  end
end
"""

# ARGV: cursor, longest name, type ('': any).  Returns the next cursor and names.
_SCAN = f"""{_EACH}
local names = {{}}
local function look(name)
  if #name <= tonumber(ARGV[2]) then names[#names + 1] = name end
end
if ARGV[3] == '' then each(look) else each(look, 'TYPE', ARGV[3]) end
return {{cursor, names}}
"""

# ARGV: cursor, longest of the other names, '1': remove them.  Returns the next cursor, and how many below our prefix
# have longer names: none of ours.
_LONG = f"""{_EACH}
local keys = 0
each(function(name)
  if #name <= tonumber(ARGV[2]) or string.sub(name, 1, 9) ~= 'ocrfleet:' then return end
  if ARGV[3] ~= '1' or redis.pcall('UNLINK', name) == 1 then keys = keys + 1 end
end)
return {{cursor, keys}}
"""


def key_names(client: redis.Redis, kind: str = "") -> Iterator[bytes]:
    """The names of all keys, of one type if it is given, but those above `MOST_NAME` bytes.

    Raises:
        NoPermissionError: this user may not SCAN.
        redis.ConnectionError: it went on for `LONGEST_S`.
    """
    for names in _steps(client, _SCAN, MOST_NAME, kind):
        yield from names[0]


def long_names(client: redis.Redis, *, remove: bool = False) -> Iterator[int]:
    """How many keys below our prefix have longer names, of each step of the scan.

    Args:
        client: connection to the broker.
        remove: them; those that this user may not remove are not counted.

    Raises:
        NoPermissionError: this user may not SCAN.
        redis.ConnectionError: it went on for `LONGEST_S`.
    """
    for found in _steps(client, _LONG, MOST_NAME, int(remove)):
        yield found[0]


def _steps(client: redis.Redis, lua: str, *arguments: str | int) -> Iterator[Sequence[Any]]:
    script, cursor, until = client.register_script(lua), b"0", time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        try:
            cursor, *found = script(args=[cursor, *arguments])
        except redis.ResponseError as error:
            if any(phrase in str(error) for phrase in _MAY_NOT):
                raise NoPermissionError("this user may not list keys (SCAN)") from None
            raise
        yield found
        if int(cursor) == 0:
            return
    raise redis.ConnectionError(f"it named keys for {LONGEST_S:.0f} s, without an end")


def as_text(key: bytes) -> str:
    """A name with one character for each byte, as patterns of users.acl count them; ours are ASCII."""
    return key.decode("latin-1")


def size_of(client: redis.Redis, key: bytes) -> int:
    """What a key takes in Redis, bytes; 0 where this user may not ask."""
    try:
        return int(client.memory_usage(key, samples=0) or 0)
    except redis.ResponseError:  # users of the version before, or a name that is not ours
        return 0
