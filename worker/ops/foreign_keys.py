"""Keys under our prefixes that are none of ours: removed by the hub's cleanup, which may list keys.

Whoever may write to Redis can fill it with keys of names that nobody looks at, without an end: nothing was taken by a
producer from then on. What begins with ``ocrfleet`` is ours by exact name and type, or goes: a key that a version to
come adds must be named here before. Of kombu's names, which another Celery app on the database may use too, only what
no kombu writes goes, or what is larger than any of theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress

import redis
from redis.exceptions import NoPermissionError

from worker.app import UNACKED_MUTEX
from worker.broker.whole import MOST_QUEUED, MOST_STORED
from worker.broker.wrong_types import SHARED
from worker.ledger.job_names import MOST_INDEX
from worker.ledger.reconcile import LOCK_KEY as RECONCILE_LOCK
from worker.messages import JOB_NAME, MAX_BLOB_BYTES
from worker.redis_keys import JOBS_KEY, JobKeys, blob_key

logger = logging.getLogger(__name__)
CLEANUP_LOCK = "ocrfleet:lock:cleanup"
LOCKS = (UNACKED_MUTEX, RECONCILE_LOCK, f"{RECONCILE_LOCK}:soon", CLEANUP_LOCK)
MOST_NAME = 4096
MOST_LOCK, MOST_BINDING, MOST_OF_OTHERS, MOST_STREAM = 64 << 10, 1 << 20, 4 << 10, 64 << 20
"""Bytes in Redis. A lock holds a host's name, a binding a queue's; the 1,000 dead letters have a few KB each."""

TYPES = ("string", "list", "set", "zset", "hash", "stream")
_LEASH_S = 3600
_JOB, _BLOB = JobKeys.of("").job, blob_key("", 0)[:-2]
_DEADLINES = "_kombu.binding_deadlines"
_KOMBUS = {"unacked": "hash", "unacked_index": "zset", "unacked_mutex": "string"}

# ARGV: cursor, type ('': any), longest name.  Returns the next cursor and names. Not SCAN itself: a few names of 4 MB
# make a reply that no connection here takes. Longer ones than any of ours are removed at once, where they are under
# our prefixes (elsewhere a user of users.acl may not; the plain compose file's user may).
_SCAN = """
if redis.replicate_commands then redis.replicate_commands() end
local found
if ARGV[2] == '' then found = redis.call('SCAN', ARGV[1], 'COUNT', 250)
else found = redis.call('SCAN', ARGV[1], 'COUNT', 250, 'TYPE', ARGV[2]) end
local names = {}
for _, name in ipairs(found[2]) do
  if #name <= tonumber(ARGV[3]) then names[#names + 1] = name
  elseif string.sub(name, 1, 8) == 'ocrfleet' or string.sub(name, 1, 7) == 'unacked'
    or string.sub(name, 1, 14) == '_kombu.binding' or string.sub(name, 1, 6) == 'bcast.'
    or string.sub(name, 1, 9) == 'celeryev.' or string.find(name, '.celery.pidbox', 1, true) then
    redis.pcall('UNLINK', name)
  end
end
return {found[1], names}
"""


def key_names(client: redis.Redis, kind: str = "") -> Iterator[bytes]:
    """The names of all keys, of one type if it is given. Needs the right to SCAN."""
    script, cursor = client.register_script(_SCAN), b"0"
    while True:
        cursor, names = script(args=[cursor, kind, MOST_NAME])
        yield from names
        if int(cursor) == 0:
            return


def most_bytes(name: str, kind: str) -> int | None:
    """What a key of this name and type may take in Redis, bytes. 0: it is none of ours; None: nothing is said of it.

    Args:
        name: the key's.
        kind: ``string``, ``list``, ``set``, ``zset``, ``hash`` or ``stream``.
    """
    if name in SHARED:
        ours = {"list": MOST_QUEUED, "stream": MOST_STREAM, "set": MOST_BINDING}.get(kind, MOST_STORED)
        return (MOST_INDEX if name == JOBS_KEY else ours) if kind == SHARED[name] else 0
    if name in LOCKS:
        return MOST_LOCK if kind == "string" else 0
    if name.startswith(_JOB):  # cleanup.py: orphan_keys
        return None if JOB_NAME.match(name.removeprefix(_JOB).partition(":")[0]) else 0
    if name.startswith(_BLOB):
        job, _, index = name.removeprefix(_BLOB).partition(":")
        is_blob = kind == "string" and JOB_NAME.match(job) and index.isdigit()
        return MAX_BLOB_BYTES * 2 if is_blob else 0
    if name.startswith("ocrfleet"):
        return 0
    return _most_of_kombus(name, kind)


def _most_of_kombus(name: str, kind: str) -> int | None:
    if name.startswith("unacked"):
        return MOST_QUEUED if _KOMBUS.get(name) == kind else 0
    if name.startswith("_kombu.binding"):
        if name == _DEADLINES:
            return MOST_STORED if kind == "zset" else 0
        most = MOST_BINDING if _is_our_binding(name) else MOST_OF_OTHERS
        return most if kind == "set" else 0
    if name.startswith(("bcast.", "celeryev.")) or ".celery.pidbox" in name:
        return MOST_BINDING if kind == "list" else 0
    return None


def _is_our_binding(name: str) -> bool:
    return name.replace("binding_permanent.", "binding.", 1) in SHARED


def foreign_keys(client: redis.Redis) -> Iterator[bytes]:
    """Keys under our prefixes that are none of ours, or larger; and others' bindings beyond 1 MB in all.

    kombu makes a binding again whenever it needs one.
    """
    bindings = 0
    for kind in TYPES:
        for key in key_names(client, kind):
            name = key.decode(errors="replace")
            most = most_bytes(name, kind)
            if most is None:
                continue
            size = _size(client, key) if most else 0
            if kind == "set" and name.startswith("_kombu.binding") and not _is_our_binding(name):
                bindings += size
                most = most if bindings <= MOST_BINDING else 0
            if size > most or not most:
                yield key


def remove_foreign(client: redis.Redis) -> int:
    """Remove those keys, and say so. Returns how many."""
    removed, example = 0, b""
    for key in foreign_keys(client):
        with suppress(redis.ResponseError):  # a name that only contains one of our prefixes
            if client.unlink(key):
                removed, example = removed + 1, key
    if removed:
        logger.error(
            "%d keys under our prefixes were none of ours, and were removed (%a was one); change the passwords",
            removed,
            example[:100],
        )
    return removed


def unbound_keys(client: redis.Redis, ttl_s: int) -> Iterator[tuple[bytes, int]]:
    """Keys of jobs and blobs, and answers to remote control, that live longer than they may -> seconds that they may.

    An hour where there is no such job: a crash between two steps left them, or somebody else.

    Args:
        client: connection to the broker.
        ttl_s: of jobs.
    """
    for key in key_names(client):
        name = key.decode(errors="replace")
        is_answer = _most_of_kombus(name, "list") == MOST_BINDING
        if not is_answer and not name.startswith((_JOB, _BLOB)):
            continue
        with suppress(NoPermissionError):  # a name that only contains one of our prefixes
            left = client.ttl(key)  # -1: for ever, -2: no such key
            job, _, part = name.removeprefix(_JOB).removeprefix(_BLOB).partition(":")
            most = ttl_s
            if is_answer or (part and not client.exists(JobKeys.of(job).job)):
                most = min(ttl_s, _LEASH_S)
            if left == -1 or left > most:
                yield key, most


def _size(client: redis.Redis, key: bytes) -> int:
    try:
        return int(client.memory_usage(key, samples=0) or 0)
    except redis.ResponseError:  # users of the version before may not ask
        return 0
