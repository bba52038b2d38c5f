"""Keys under our prefix that are none of ours: removed by the hub's cleanup, which may list keys.

Whoever may write to Redis can fill it with keys of names that nobody looks at, without an end: nothing was taken by a
producer from then on. What begins with ``ocrfleet:`` is ours by exact name and type, or goes: a key that a version to
come adds must be named here before. Another app may be called ``ocrfleet-post``: without the colon only our queue's
four lists are ours, and names that differ from theirs in the two bytes before the step go, since users.acl lets ours
write them (it can spell kombu's two bytes only as they are, and who copies it from a screen would lose them).

Of the names that kombu gives in every app's database, only those of our own exchanges, and the few that all apps have
in common, are looked at, each by its exact name, and go where they are of another type or larger than any. The rest may
be another app's (its bindings, the messages it has in hand): neighbours.py says what is there.
"""

from __future__ import annotations

import logging
import re
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
from worker.ops.key_scan import as_text, key_names, long_names, size_of
from worker.ops.neighbours import DEADLINES, bound_queues, is_our_binding, passes, queue_of
from worker.redis_keys import JOBS_KEY, JobKeys, blob_key

logger = logging.getLogger(__name__)
CLEANUP_LOCK = "ocrfleet:lock:cleanup"
LOCKS = (UNACKED_MUTEX, RECONCILE_LOCK, f"{RECONCILE_LOCK}:soon", CLEANUP_LOCK)
MOST_LOCK, MOST_BINDING, MOST_STREAM = 64 << 10, 1 << 20, 64 << 20
"""Bytes in Redis. A lock holds a host's name, a binding a queue's; the 1,000 dead letters have a few KB each."""

PREFIX = "ocrfleet:"
TYPES = ("string", "list", "set", "zset", "hash", "stream")
_LEASH_S = 3600
_STEP = re.compile("ocrfleet[^!-~][^!-~][369]")  # as in users.acl
_JOB, _BLOB = JobKeys.of("").job, blob_key("", 0)[:-2]


def most_bytes(name: str, kind: str) -> int | None:
    """What a key of this name and type may take in Redis, bytes. 0: it is none of ours; None: nothing is said of it.

    Args:
        name: the key's, one character a byte (`as_text`).
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
    if name.startswith(PREFIX) or _STEP.fullmatch(name):
        return 0
    if name == DEADLINES:
        return MOST_STORED if kind == "zset" else 0
    if is_our_binding(name):
        return MOST_BINDING if kind == "set" else 0
    return None


def foreign_keys(client: redis.Redis) -> Iterator[bytes]:
    """Keys under our prefix that are none of ours, or larger; and kombu's of ours that are no kombu's."""
    queues = bound_queues(client)
    for kind in TYPES:
        for key in key_names(client, kind):
            name = as_text(key)
            most = most_bytes(name, kind)
            if kind == "list" and queue_of(name) in queues:
                continue
            if most is not None and (not most or size_of(client, key) > most):
                yield key


def remove_foreign(client: redis.Redis, *, dry_run: bool = False) -> int:
    """Remove those keys, and those of longer names than any of ours, and say so. Returns how many."""
    removed = sum(keys for keys, _ in long_names(client, "ours", remove=not dry_run))
    if dry_run:
        return removed + sum(1 for _ in foreign_keys(client))
    example = b"a long name"
    for key in foreign_keys(client):
        if client.unlink(key):
            removed, example = removed + 1, key
    if removed:
        logger.error(
            "%d keys under our names were none of ours, and were removed (%a was one); change the passwords",
            removed,
            example[:100],
        )
    return removed


def unbound_keys(client: redis.Redis, ttl_s: int) -> Iterator[tuple[bytes, int]]:
    """Keys of jobs and blobs, and lists of Celery's, that live longer than they may -> seconds that they may.

    An hour where there is no such job: a crash between two steps left them, or somebody else; and of lists that nobody
    reads so late.

    Args:
        client: connection to the broker.
        ttl_s: of jobs.
    """
    for key in key_names(client):
        name = as_text(key)
        if name.startswith((_JOB, _BLOB)):
            job, _, part = name.removeprefix(_JOB).removeprefix(_BLOB).partition(":")
            yield from _if_longer(client, key, ttl_s if not part or client.exists(JobKeys.of(job).job) else _LEASH_S)
    for key in key_names(client, "list"):
        if passes(as_text(key)):
            with suppress(NoPermissionError):  # users of the version before may name it in another way
                yield from _if_longer(client, key, _LEASH_S)


def _if_longer(client: redis.Redis, key: bytes, most: int) -> Iterator[tuple[bytes, int]]:
    left = client.ttl(key)  # -1: for ever, -2: no such key
    if left == -1 or left > most:
        yield key, most
