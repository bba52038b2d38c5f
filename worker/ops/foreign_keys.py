"""Keys under our prefix that are none of ours: removed by the hub's cleanup, which may list keys.

Whoever may write to Redis can fill it with keys of names that nobody looks at, without an end: nothing was taken by a
producer from then on. What begins with ``ocrfleet:`` is ours by exact name and type, or goes: a key that a version to
come adds must be named here before. Another app may be called ``ocrfleet-post``: without the colon only our queue's
four lists are ours, and names that differ from theirs in the two bytes before the step go, since users.acl lets ours
write them (it can spell kombu's two bytes only as they are, and who copies it from a screen would lose them).

Of the names that kombu gives in every app's database we have none. Four that versions before this had, and that are
certainly theirs, go; the rest may be another app's (its bindings, the messages it has in hand).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

import redis
from redis.exceptions import NoPermissionError

from worker.app import BROADCAST_QUEUE, IMAGE_QUEUE, REPLY_KEY, REPLY_LISTS, UNACKED_MUTEX
from worker.broker.whole import MOST_QUEUED, MOST_STORED
from worker.broker.wrong_types import SHARED
from worker.ledger.job_names import MOST_INDEX
from worker.ledger.reconcile import LOCK_KEY as RECONCILE_LOCK
from worker.messages import JOB_NAME, MAX_BLOB_BYTES
from worker.ops.key_scan import as_text, key_names, long_names, size_of
from worker.redis_keys import JOBS_KEY, OWNER_PREFIX, JobKeys, blob_key, split_owner

logger = logging.getLogger(__name__)
CLEANUP_LOCK = "ocrfleet:lock:cleanup"
LOCKS = (UNACKED_MUTEX, RECONCILE_LOCK, f"{RECONCILE_LOCK}:soon", CLEANUP_LOCK)
MOST_LOCK, MOST_STREAM = 64 << 10, 64 << 20
"""Bytes in Redis. A lock holds a host's name; the 1,000 dead letters have a few KB each."""

PREFIX = "ocrfleet:"
TYPES = ("string", "list", "set", "zset", "hash", "stream")
_LEASH_S = 3600
_STEP = re.compile("ocrfleet[^!-~][^!-~][369]")  # as in users.acl
_REPLIES = re.compile(re.escape(REPLY_LISTS) + REPLY_KEY.pattern)
_PRIORITY = re.compile("\x06\x16[369]$")
_BINDING, _PERMANENT = "_kombu.binding.", "_kombu.binding_permanent."
OLD_BINDINGS = tuple(f"{kind}{name}" for kind in (_BINDING, _PERMANENT) for name in (IMAGE_QUEUE, BROADCAST_QUEUE))
MOST_EXCHANGES = 10_000
_JOB, _BLOB = JobKeys.of("").job, blob_key("", 0)[:-2]


def most_bytes(name: str, kind: str) -> int | None:
    """What a key of this name and type may take in Redis, bytes. 0: it is none of ours; None: nothing is said of it.

    Args:
        name: the key's, one character a byte (`as_text`).
        kind: ``string``, ``list``, ``set``, ``zset``, ``hash`` or ``stream``.
    """
    if name in SHARED:
        ours = {"list": MOST_QUEUED, "stream": MOST_STREAM}.get(kind, MOST_STORED)
        return (MOST_INDEX if name == JOBS_KEY else ours) if kind == SHARED[name] else 0
    if name in LOCKS:
        return MOST_LOCK if kind == "string" else 0
    if name.startswith(_JOB):  # cleanup.py: orphan_keys
        return None if JOB_NAME.match(name.removeprefix(_JOB).partition(":")[0]) else 0
    if name.startswith(_BLOB):
        owner, _, index = name.removeprefix(_BLOB).partition(":")
        is_blob = kind == "string" and JOB_NAME.match(owner) and index.isdigit()
        return MAX_BLOB_BYTES * 2 if is_blob else 0
    if _REPLIES.fullmatch(name):
        return MOST_STORED if kind == "list" else 0
    return 0 if name.startswith(PREFIX) or _STEP.fullmatch(name) else None


def bound_queues(client: redis.Redis) -> set[str]:
    """Queues of other Celery apps whose exchange has the queue's name, as Celery's own are: not ours to remove.

    With a password of ours nobody writes such a binding (users.acl), so no stranger keeps his lists by one.

    Raises:
        NoPermissionError: this user may not SCAN.
    """
    names = (as_text(key) for key in key_names(client, "set"))
    bindings = (name.replace(_PERMANENT, _BINDING, 1) for name in names if name not in OLD_BINDINGS)
    return {
        name.removeprefix(_BINDING) for name in islice((b for b in bindings if b.startswith(_BINDING)), MOST_EXCHANGES)
    }


def foreign_keys(client: redis.Redis) -> Iterator[bytes]:
    """Keys under our prefix that are none of ours, or larger."""
    queues = bound_queues(client)
    for kind in TYPES:
        for key in key_names(client, kind):
            name = as_text(key)
            most = most_bytes(name, kind)
            if kind == "list" and _PRIORITY.sub("", name) in queues:
                continue
            if most is not None and (not most or size_of(client, key) > most):
                yield key


def remove_foreign(client: redis.Redis, *, dry_run: bool = False) -> int:
    """Remove those keys, and those of longer names than any of ours, and say so. Returns how many."""
    old = 0
    with suppress(NoPermissionError):  # a user of somebody's own making
        old = int(client.exists(*OLD_BINDINGS) if dry_run else client.unlink(*OLD_BINDINGS))
    removed = sum(long_names(client, remove=not dry_run))
    if dry_run:
        return old + removed + sum(1 for _ in foreign_keys(client))
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
    return old + removed


def unbound_keys(client: redis.Redis, ttl_s: int) -> Iterator[tuple[bytes, int]]:
    """Keys of jobs and blobs, and answers, that live longer than they may -> seconds that they may.

    An hour where there is no such job: a crash between two steps left them, or somebody else; and of answers to remote
    control, for which whoever asked waits 10 s.

    Args:
        client: connection to the broker.
        ttl_s: of jobs.
    """
    for key in key_names(client):
        name = as_text(key)
        if name.startswith((_JOB, _BLOB)):
            job, _, part = name.removeprefix(_JOB).removeprefix(_BLOB).partition(":")
            known = not part or client.exists(JobKeys.of(job).job) or (name.startswith(_BLOB) and _owns(client, job))
            yield from _if_longer(client, key, ttl_s if known else _LEASH_S)
        elif _REPLIES.fullmatch(name):
            yield from _if_longer(client, key, _LEASH_S)


def _owns(client: redis.Redis, owner: str) -> bool:
    """Whether there is such a job as a page's bytes are of, with that epoch. Of long names it is not known."""
    job, epoch = split_owner(owner)
    if not epoch or len(job) == OWNER_PREFIX:
        return bool(epoch)
    with suppress(redis.ResponseError):  # another type stands there
        return bool(client.hget(JobKeys.of(job).job, "epoch") == epoch.encode())
    return False


def _if_longer(client: redis.Redis, key: bytes, most: int) -> Iterator[tuple[bytes, int]]:
    left = client.ttl(key)  # -1: for ever, -2: no such key
    if left == -1 or left > most:
        yield key, most
