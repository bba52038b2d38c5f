"""Keys under our prefixes that are none of ours go with the hub's cleanup; ours, and other apps', stay."""

from __future__ import annotations

from uuid import uuid4

import pytest
import redis

from worker.app import REPLY_LISTS, app_for
from worker.broker import blobs, queue
from worker.ledger import Ledger
from worker.messages import ImageTask
from worker.ops.cleanup import clean_redis
from worker.ops.foreign_keys import MOST_LOCK, most_bytes
from worker.ops.key_scan import MOST_NAME
from worker.redis_keys import DEAD_KEY, JobKeys, blob_key
from worker.settings import Settings


def ours(ledger: Ledger, settings: Settings) -> set[bytes]:
    """A job with a page that runs, and what others keep on such a Redis. Returns the keys."""
    client, app = ledger.client, app_for(settings)
    blobs.put(client, "job", {0: b"x"}, 3600)
    ledger.create("job", 2, {})
    task = ImageTask(job="job", index=0, image="a", uri="file:///a")
    ledger.feed([task])
    queue.send(app, task)
    queue.send(app, task, urgent=True)
    ledger.begin("job", 0, redelivered=False)
    client.xadd(DEAD_KEY, {"a": "b"})
    client.set("ocrfleet:lock:reconcile", "1", ex=60)
    client.hset("unacked", "tag", "x")
    client.sadd("_kombu.binding.celery", "celery\x06\x16\x06\x16celery")
    client.set("somebody's", b"x" * 100_000)
    client.set("x" * (MOST_NAME + 1), "y")
    return set(client.keys())


def test_foreign_keys_go(ledger: Ledger, client: redis.Redis, settings: Settings) -> None:
    """Before: 260 keys of 4 MiB, and no producer ever sent a page again; cleanup looked at ocrfleet:job:* alone."""
    kept = ours(ledger, settings)
    for number in range(300):
        client.set(f"ocrfleet:note:{number}", b"x" * 1000)
    foreign = (
        "ocrfleet:s",
        "ocrfleet:job:%",
        "ocrfleet:blob:job",
        "ocrfleet:mailbox.w1@host",
        f"{REPLY_LISTS}{uuid4()}",
        f"{REPLY_LISTS}x",
    )
    for name in foreign:
        client.set(name, "x")
    client.set("ocrfleet:" + "x" * (1 << 20), "y")
    client.set("ocrfleet:unacked_mutex", b"x" * 2 * MOST_LOCK)
    assert clean_redis(ledger, settings, dry_run=True)["keys"] >= 300 + len(foreign)
    assert client.exists("ocrfleet:note:0")
    clean_redis(ledger, settings)
    assert set(client.keys()) == kept
    assert clean_redis(ledger, settings)["keys"] == 0


def test_keys_of_no_job_end_within_the_hour(ledger: Ledger, client: redis.Redis, settings: Settings) -> None:
    """Before: each night gave them three days more, and blobs were not looked at."""
    ledger.create("job", 1, {})
    ledger.create("other", 1, {}, epoch="0123456789abcdef")
    ghosts = [JobKeys.of("ghost").state, JobKeys.of("ghost").results + "x", blob_key("ghost", 1)]
    ghosts += [blob_key("other", 0, "f" * 16), blob_key("ghost", 1, "0123456789abcdef")]
    for key in ghosts:
        client.set(key, "x")
    long_ttl = Ledger(client, ttl_s=72 * 3600)
    known = [blob_key("job", 0), blob_key("other", 0, "0123456789abcdef"), blob_key("n" * 64, 0, "0123456789abcdef")]
    for key in known:
        client.set(key, "x")
    answer = f"{REPLY_LISTS}{uuid4()}"
    client.rpush(answer, "x")
    client.expire(ghosts[0], 71 * 3600)
    clean_redis(long_ttl, settings)
    assert all(0 < client.ttl(key) <= 3600 for key in (*ghosts, answer))
    assert all(3600 < client.ttl(key) <= 72 * 3600 for key in known)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("celery", "list"),
        ("_kombu.binding.celery", "set"),
        ("unacked:x", "string"),
        ("bcast.x", "string"),
        ("others:ocrfleet:x", "hash"),
        ("ocrfleet-post", "list"),
        ("ocrfleet-post\x06\x163", "list"),
        ("ocrfleet2", "string"),
        ("ocrfleet.results", "stream"),
        ("ocrfleetx:job:1", "hash"),
        ("flower", "string"),
    ],
)
def test_nothing_is_said_of_others(name: str, kind: str) -> None:
    assert most_bytes(name, kind) is None
