"""Other Celery apps in our database of Redis, and what lies under Celery's names that is none of ours: only said.

kombu gives these names to every app on a database. What is there may be another's bindings, its messages in hand, or
a stranger's who has a password of ours: nobody can tell them apart, so nothing of it is removed but when a person says
that there is no other app (``ocr-worker cleanup --celery-names``).
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

import redis
from redis.exceptions import NoPermissionError

from worker.broker.wrong_types import SHARED
from worker.ops.key_scan import as_text, key_names, long_names, size_of

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_STEP = "(?:\x06\x16[369])?"
_BINDING = "_kombu.binding."
_PERMANENT = "_kombu.binding_permanent."
DEADLINES = "_kombu.binding_deadlines"
# Answers to remote control, for which whoever asked waits 10 s; and names of queues that are fed by pub/sub in Redis
# (broadcasts, events, remote control): a list of such a name is never read.
_PASSING = re.compile(
    rf"({_UUID}\.reply\.celery\.pidbox|(bcast|celeryev)\.{_UUID}|.+@.+\.celery\.pidbox){_STEP}", re.DOTALL
)
_PRIORITY = re.compile("\x06\x16[369]$")
# Any two bytes for kombu's \x06\x16: so much users.acl allows, which has none such itself (foreign_keys.py says why).
_QUEUE = re.compile(r"(bcast|celeryev)\..*|.*\.celery\.pidbox(..[369])?", re.DOTALL)
MOST_EXCHANGES = 10_000
LOOK_S = 3.0
"""The longest that `doctor` looks."""


class Neighbours(NamedTuple):
    """What a look found.

    Attributes:
        exchanges: of other Celery apps.
        keys: under Celery's names that are none of ours.
        bytes: that they take.
        example: one of them.
    """

    exchanges: tuple[str, ...] = ()
    keys: int = 0
    bytes: int = 0
    example: str = ""


def is_our_binding(name: str) -> bool:
    """Of one of our exchanges, or of Celery's own, which all apps on a database share."""
    return name.replace(_PERMANENT, _BINDING, 1) in SHARED


def queue_of(name: str) -> str:
    """The queue that a list of this name is of, without kombu's step of priority."""
    return _PRIORITY.sub("", name)


def bound_queues(client: redis.Redis) -> set[str]:
    """Queues of other Celery apps whose exchange has the queue's name, as Celery's own are: not ours to remove.

    With a password of ours nobody writes such a binding (users.acl), so no stranger keeps his lists by one.

    Raises:
        NoPermissionError: this user may not SCAN.
    """
    names = (as_text(key) for key in key_names(client, "set"))
    foreign = (name for name in names if name.startswith((_BINDING, _PERMANENT)) and not is_our_binding(name))
    return {name.replace(_PERMANENT, _BINDING, 1).removeprefix(_BINDING) for name in islice(foreign, MOST_EXCHANGES)}


def passes(name: str) -> bool:
    """A list of a name that kombu gives and needs for seconds, or never: whosever it is, it may lapse in an hour."""
    return _PASSING.fullmatch(name) is not None


def is_celerys(name: str) -> bool:
    """A name (`as_text`) that kombu gives, and that is none of ours alone."""
    if name.startswith("_kombu."):
        return name != DEADLINES and not is_our_binding(name)
    return name.startswith("unacked") or _QUEUE.fullmatch(name) is not None


def remove_celerys(client: redis.Redis, *, dry_run: bool = False) -> int:
    """Remove such keys, since a person said that no other app has any here. Returns how many."""
    removed = sum(keys for keys, _ in long_names(client, "celerys", remove=not dry_run))
    for key in key_names(client):
        if is_celerys(as_text(key)):
            with suppress(NoPermissionError):  # no password of ours could have written it
                removed += int(client.exists(key) if dry_run else client.unlink(key))
    return removed


def look(client: redis.Redis, seconds: float = LOOK_S) -> Neighbours:
    """What is there, of as many keys as can be looked at in this time; nothing, for a user that may not SCAN."""
    until = time.monotonic() + seconds
    exchanges, keys, size, example = set[str](), 0, 0, ""
    try:
        for key in key_names(client):
            if time.monotonic() > until:
                break
            if not is_celerys(as_text(key)):
                continue
            name = key.decode(errors="replace")
            if name.startswith((_BINDING, _PERMANENT)):
                exchanges.add(name.replace(_PERMANENT, _BINDING, 1).removeprefix(_BINDING))
            keys, size, example = keys + 1, size + size_of(client, key), name
        for more, bytes_ in long_names(client, "celerys"):
            keys, size = keys + more, size + bytes_
            example = example or ("a name above 4,096 bytes" if more else "")
            if time.monotonic() > until:
                break
    except NoPermissionError:
        return Neighbours()
    return Neighbours(tuple(sorted(exchanges)), keys, size, example)
