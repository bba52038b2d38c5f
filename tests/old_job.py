"""Jobs of an earlier version as text: what its Redis held, as commands that make the same keys again.

The images lay in another folder then. Their addresses are in the manifest, in the ledger and inside the messages of
the queue, whose bodies are base64; `moved` finds them all.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

HOME = "/old-job"  # stands in tests/data/old_job for the folder that holds the images and OUT


def moved(text: str, old: str, new: str) -> str:
    """The text with one folder's name replaced by another's, also inside the bodies of messages."""

    def body(match: re.Match[str]) -> str:
        inside = base64.b64decode(match[1]).decode().replace(old, new)
        return f'"body": "{base64.b64encode(inside.encode()).decode()}"'

    return re.sub(r'"body": "([A-Za-z0-9+/=]+)"', body, text.replace(old, new))


def dump(client: redis.Redis) -> list[list[str]]:
    """Commands that make all keys of a server again, without their times to live."""
    return [[part.decode() for part in command] for key in sorted(client.keys()) for command in _commands(client, key)]


def _commands(client: Any, key: bytes) -> Iterator[list[bytes]]:
    kind = client.type(key)
    if kind == b"string":
        yield [b"SET", key, client.get(key)]
    elif kind == b"hash":
        yield [b"HSET", key, *(part for pair in client.hgetall(key).items() for part in pair)]
    elif kind == b"zset":
        scores = client.zrange(key, 0, -1, withscores=True)
        yield [b"ZADD", key, *(part for name, score in scores for part in (repr(score).encode(), name))]
    elif kind == b"list":
        yield [b"RPUSH", key, *client.lrange(key, 0, -1)]
    elif kind == b"set":
        yield [b"SADD", key, *sorted(client.smembers(key))]
    elif kind == b"stream":
        for name, fields in client.xrange(key):
            yield [b"XADD", key, name, *(part for pair in fields.items() for part in pair)]
    else:
        raise ValueError(f"{key!r}: a {kind!r}")


def restore(client: redis.Redis, file: Path, folder: Path) -> None:
    """Give these commands to a server, with the images in ``folder``."""
    for command in json.loads(file.read_text()):
        client.execute_command(*(moved(part, HOME, str(folder)) for part in command))
