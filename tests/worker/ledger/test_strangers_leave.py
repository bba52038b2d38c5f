"""What whoever had a password wrote before he left: it is bounded, and jobs go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from producer.job.feed import Feeder
from producer.job.manifest import ManifestLine
from producer.job.upload import Uploader
from worker.app import UNACKED, UNACKED_INDEX, app_for
from worker.broker import blobs, queue
from worker.celery_ext import self_care
from worker.ledger import Ledger, reconcile
from worker.messages import MAX_BLOB_BYTES, ImageTask, encode
from worker.ops.cleanup import clean_redis
from worker.redis_keys import JOBS_KEY, JobKeys, blob_key
from worker.settings import Settings


def by_a_worker(ledger: Ledger, settings: Settings) -> None:
    self_care.SelfCare(app_for(settings), lambda *_: None).look()


def by_beat(ledger: Ledger, settings: Settings) -> None:
    assert reconcile.reconcile_all_once(app_for(settings), ledger) == 0


def by_the_hub(ledger: Ledger, settings: Settings) -> None:
    clean_redis(ledger, settings)


@pytest.mark.parametrize("look", [by_a_worker, by_beat, by_the_hub])
def test_what_is_no_message_in_hand_goes(
    ledger: Ledger,
    client: redis.Redis,
    settings: Settings,
    look: Callable[[Ledger, Settings], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before: 300 fields that the index does not name filled the window for good, and no job was fed again."""
    monkeypatch.setattr(self_care, "main_ledger", lambda: ledger)
    now = ledger.now()
    message = json.dumps([{"headers": {"id": "job:0"}}, "", "ocrfleet"])
    client.hset(UNACKED, mapping={f"x{number}": "x" for number in range(300)})
    assert queue.depth(client) == (0, 0)
    client.hset(UNACKED, mapping={"alone": message, "both": "x", "ours": message, "ahead": message})
    client.zadd(UNACKED_INDEX, {"both": now, "ours": now, "ahead": 1e15, "nothing": 1e15})
    look(ledger, settings)
    assert set(client.hkeys(UNACKED)) == set(client.zrange(UNACKED_INDEX, 0, -1)) == {b"ours", b"ahead"}
    assert client.zscore(UNACKED_INDEX, "ahead") < now + 60 and client.zscore(UNACKED_INDEX, "ours") == now
    assert queue.depth(client) == (0, 2)


def test_sizes_that_somebody_made_up_stop_no_upload(
    ledger: Ledger, client: redis.Redis, settings: Settings, tmp_path: Path
) -> None:
    """Before: one job of 1,000,000,000 bytes, and no other's page was sent for as long as its keys lived."""
    image = tmp_path / "a.jpg"
    image.write_bytes(b"\xff\xd8\xff" + bytes(1000))
    client.hset(JobKeys.of("zz").job, mapping={"total": 1, "state": "open", "created_ms": 9 * 10**14})
    client.zadd(JOBS_KEY, {"zz": 9e11})
    client.hset(JobKeys.of("zz").blobs, mapping={"0": 10**9, "1": MAX_BLOB_BYTES})
    ledger.create("job", 4, {})
    client.hset(JobKeys.of("job").blobs, mapping={"x": MAX_BLOB_BYTES, "3": MAX_BLOB_BYTES, "99": 10**9})
    lines = [ManifestLine(index, "a.jpg", image.as_uri(), 0) for index in range(4)]
    with Uploader(ledger, "job", limit_side=0, shrink=False) as uploader:
        assert Feeder(app_for(settings), ledger, "job", lines, uploader=uploader).step() == 4
    assert blobs.waiting_bytes(client, ["job"]) == 4 * 1003
    assert blobs.waiting_bytes(client, ["zz"]) == MAX_BLOB_BYTES
    clean_redis(ledger, settings)
    status = ledger.status("zz")
    assert status is not None and status.created_s <= status.now_s
    client.hset(JobKeys.of("zz").job, "created_ms", 1)
    assert clean_redis(ledger, settings)["jobs"] == 1 and ledger.jobs() == ["job"]


def test_a_lease_until_the_year_33658_is_none(
    ledger: Ledger, client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: its page was busy to every worker, and no look for stranded pages found it."""
    monkeypatch.setattr(reconcile, "GAP_S", 0)
    monkeypatch.setattr(reconcile, "GRACE_S", 0)
    tasks = [ImageTask(job="job", index=index, image="a", uri="file:///a") for index in range(6)]
    ledger.create("job", 6, {})
    ledger.feed(tasks)
    ledger.begin("job", 1, redelivered=False)
    ledger.begin("job", 2, redelivered=False)
    keys = JobKeys.of("job")
    client.zadd(keys.leases, {"0": 1e15, "1": 1e15, "3": 1e15, "4": float("inf")})
    client.hset(keys.tasks, "5", b"9" * 18 + b" " + encode(tasks[5]))
    assert ledger.begin("job", 0, redelivered=False).verdict == "run"
    assert ledger.begin("job", 2, redelivered=False).verdict == "busy", "an honest one"
    app = app_for(settings)
    assert sorted(reconcile.stranded(ledger, "job")) == [1, 3, 4, 5]
    assert reconcile.reconcile(app, ledger, "job") == 4
    assert queue.queued_ids(client) == {f"job:{index}" for index in (1, 3, 4, 5)}
    assert ledger.begin("job", 1, redelivered=False).verdict == "run"


def test_tasks_of_pages_that_a_job_does_not_have_hold_no_page(
    ledger: Ledger, client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: 400 of them filled the job's share while others were at work, and stayed."""
    monkeypatch.setattr(reconcile, "GAP_S", 0)
    app = app_for(settings)
    ledger.create("other", 1, {})
    ledger.feed([ImageTask(job="other", index=0, image="a", uri="file:///a")])
    ledger.create("job", 9, {})
    lines = (ManifestLine(index=index, image="a", uri="file:///a", page=0) for index in range(9))
    feeder = Feeder(app, ledger, "job", lines)
    keys = JobKeys.of("job")
    # Of a time long ago, of none, and with a lease that has ended.
    client.hset(keys.tasks, mapping={str(page): f"{'1' if page % 2 else 'x'} {{}}" for page in range(9, 400)})
    client.hset(keys.tasks, mapping={str(2**63 + page): "1 {}" for page in range(9)})
    client.zadd(keys.leases, {str(page): 1 for page in range(9, 100)})
    assert feeder.step() == 0
    assert reconcile.reconcile(app, ledger, "job") == 0
    assert not client.exists(keys.tasks, keys.leases) and feeder.step() == 9
    assert reconcile.reconcile(app, ledger, "job") == 0 and client.hlen(keys.tasks) == 9, "those of its own stay"


def test_what_is_kept_of_a_page_before_it_is_fed_is_not_its_own(ledger: Ledger, client: redis.Redis) -> None:
    """Before: tries and losses, written once, were those of a watched folder's later files: given up unopened."""
    ledger.create("job", 1200, {})
    keys = JobKeys.of("job")
    client.hset(keys.attempts, mapping=dict.fromkeys(map(str, range(1200)), "99"))
    client.hset(keys.losses, mapping=dict.fromkeys(map(str, range(1200)), "OutOfMemory,Aborted"))
    client.hset(keys.holders, mapping=dict.fromkeys(map(str, range(1200)), "a:1"))
    client.hset(keys.holders, mapping={f"{index}:call": "exhausted x" for index in range(1200)})
    client.zadd(keys.leases, dict.fromkeys(map(str, range(1200)), ledger.now() * 1000 + 60_000))
    tasks = [ImageTask(job="job", index=index, image="a", uri="file:///a") for index in range(1199)]
    assert len(ledger.feed(tasks)) == 1199
    for index in (0, 499, 500, 1198):
        assert ledger.begin("job", index, redelivered=False) == ("run", 1, ())
    ledger.lose("job", 0, "WorkerLost")
    assert ledger.feed(tasks) == [], "what is on its way keeps what is known of it"
    assert ledger.begin("job", 0, redelivered=False) == ("run", 2, ("WorkerLost",))
    assert client.hlen(keys.attempts) == 5 and client.hget(keys.attempts, "1199") == b"99"


def test_sizes_of_more_pages_than_a_window_has_make_it_no_larger(
    ledger: Ledger, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: the job counted as made up, and its feeder filled 80% of Redis, for as long as the fields stood there."""
    sizes = JobKeys.of("job").blobs
    ledger.create("job", 2000, {}, epoch="e")
    blobs.put(client, "job", {0: b"12345", 1: b"678"}, 60, "e")
    tasks = [ImageTask(job="job", index=index, image="a", uri="file:///a", epoch="e") for index in range(1100)]
    ledger.feed(tasks[:2])
    client.hset(sizes, mapping=dict.fromkeys(map(str, range(2, 1100)), "0"))
    with Uploader(ledger, "job", limit_side=0, shrink=False, epoch="e") as uploader:
        assert uploader.waiting_bytes(10**9) == 8 and client.hlen(sizes) == 2
        ledger.feed(tasks[2:])  # as far as he can tell: their states are such
        client.hset(sizes, mapping=dict.fromkeys(map(str, range(2, 1100)), "1"))
        assert uploader.waiting_bytes(10**9) == 8 + 1098
    monkeypatch.setattr("worker.broker.whole.MOST_FIELDS", 1050)
    assert blobs.waiting_bytes(client, ["job"]) == 0 and blobs.own_bytes(client, "job", 10**9, "e") == 0
    assert not client.exists(sizes), "too many: dropped as they are read"
    assert ledger.begin("job", 0, redelivered=False, epoch="e").verdict == "run"
    assert ledger.finish("job", 0, ok=True, record=b"{}", epoch="e")
    assert not client.exists(blob_key("job", 0, "e")) and client.exists(blob_key("job", 1, "e")), (
        "its bytes go all the same"
    )
