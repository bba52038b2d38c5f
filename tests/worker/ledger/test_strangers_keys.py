"""What whoever has a worker's password may write over a job's keys: it costs that job alone."""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from detector.errors import TooLarge
from producer.job.collector_lock import LOCK_S, AlreadyCollectingError, JobLock
from producer.job.status import StatusRow
from worker.app import app_for
from worker.broker import blobs
from worker.celery_ext import self_care
from worker.ledger import Ledger, reconcile
from worker.ledger.dead_letters import record_dead_letter
from worker.ledger.ledger import LAPSED_AT_ONCE
from worker.ledger.share import Share
from worker.messages import MAX_BLOB_BYTES, ImageTask, failed_record
from worker.ops.exporter import take_sample
from worker.process_identity import identity, is_gone
from worker.redis_keys import COUNTERS_KEY, DEAD_KEY, JOBS_KEY, JobKeys
from worker.settings import Settings

STRANGE = ["x", "9" * 5000, "-1", "1e5", "1e308", str(2**63), str(10**19 - 1), str(2**63 - 1), "٣"]


@pytest.mark.parametrize("strange", [*STRANGE, "50000000"])
def test_one_such_field_stops_nobody(ledger: Ledger, client: redis.Redis, strange: str) -> None:
    """Before: int() raised in each worker's first look, at each start, and in every feeder of the page."""
    ledger.create("job", 2, {})
    ledger.feed([ImageTask(job="job", index=index, image="a", uri="file:///a") for index in range(2)])
    ledger.begin("job", 1, redelivered=False)
    keys = JobKeys.of("job")
    client.hset(keys.tasks, strange, f"{strange} x")
    client.hset(keys.holders, strange, "somebody")
    client.zadd(keys.leases, {strange: 1})
    client.hset(keys.blobs, mapping={strange: strange, "0": "7"})
    client.hset(keys.job, mapping={"total": strange, "created_ms": strange})
    assert ledger.in_flight("job").keys() == {0, 1}
    assert ledger.holders("job").keys() <= {1}
    assert ledger.lapsed("job") == [] and ledger.leased("job") == {1}
    assert not any(client.hexists(key, strange) for key in (keys.tasks, keys.holders))
    assert client.zrange(keys.leases, 0, -1) == [b"1"]
    assert blobs.drop_strays(client, "job") == 7
    status = ledger.status("job")
    assert status is not None and abs(StatusRow.of(status).total) < 1e15
    assert blobs.discard(client, "job") == 1


@pytest.mark.parametrize("waits", [True, False])
def test_bytes_of_the_version_before_go_with_their_job(ledger: Ledger, client: redis.Redis, waits: bool) -> None:
    """It put them there without the job's epoch. Before: pictures of a job that was deleted stayed for 72 hours."""
    ledger.create("job", 2, {}, epoch="new")
    for index, epoch in enumerate(("", "new")):
        blobs.put(client, "job", {index: b"data"}, 3600, epoch)
    if waits:
        ledger.forget("job")
    else:
        blobs.drop_strays(client, "job", "new")
    assert not client.keys("ocrfleet:blob:*")


@pytest.mark.parametrize("part", JobKeys._fields)
def test_a_key_of_another_type_keeps_no_other_job_from_being_looked_after(
    ledger: Ledger, client: redis.Redis, settings: Settings, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: WRONGTYPE ended the look for stranded pages of all jobs, and each feeder's step."""
    monkeypatch.setattr(reconcile, "GAP_S", 0)
    for job in ("damaged", "sound"):
        ledger.create(job, 1, {})
        ledger.feed([ImageTask(job=job, index=0, image="a", uri="file:///a")])
        ledger.begin(job, 0, redelivered=False)
    ledger.expire_leases("sound")
    key = getattr(JobKeys.of("damaged"), part)
    client.delete(key)
    client.sadd(key, "x")
    assert "sound" in reconcile.open_jobs(ledger)
    assert reconcile.reconcile_all_once(app_for(settings), ledger) == 1
    assert [job for job in ledger.jobs() if ledger.status(job)][-1] == "sound"
    assert blobs.waiting_bytes(client, ["damaged", "sound"]) == 0
    assert Share(ledger, "other").others() >= 1
    ledger.forget("damaged")
    assert not client.exists(key)


def test_a_script_that_fails_over_one_job_keeps_no_other_from_being_looked_after(
    ledger: Ledger, client: redis.Redis, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    for job in ("damaged", "sound"):
        ledger.create(job, 1, {})
        ledger.feed([ImageTask(job=job, index=0, image="a", uri="file:///a")])
        ledger.begin(job, 0, redelivered=False)
        ledger.expire_leases(job)
    client.hset(JobKeys.of("damaged").attempts, "0", "x")
    client.hset(JobKeys.of("damaged").losses, "0", "x")
    client.hset(JobKeys.of("damaged").tasks, "0", "x")
    assert reconcile.reconcile_all_once(app_for(settings), ledger) == 1
    assert "damaged" in caplog.text


@pytest.mark.parametrize("strange", [*STRANGE[:-1], "9" * 19])
def test_a_process_of_no_number_is_not_gone(strange: str) -> None:
    place, _, _ = identity().rpartition(":")[0].rpartition(":")
    assert not is_gone(f"{place}:{strange}:1")


@pytest.fixture
def each_look_takes_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else the machine does: a look of a tenth of a second is one at a hundred things."""
    ticks = count()
    clock = SimpleNamespace(monotonic=lambda: next(ticks) / 1000, sleep=time.sleep)
    monkeypatch.setattr(reconcile, "LOOK_S", 0.1)
    monkeypatch.setattr(reconcile, "time", clock)
    monkeypatch.setattr(self_care, "time", clock)


def test_a_look_at_very_many_jobs_ends_in_time(
    ledger: Ledger, client: redis.Redis, each_look_takes_a_millisecond: None
) -> None:
    """Before: 50,000 made-up jobs kept each worker's main process from its messages for 25 to 35 s at each look."""
    pipe = client.pipeline(transaction=False)
    for number in range(3000):
        pipe.zadd(JOBS_KEY, {f"job-{number}": 1})
        pipe.hset(JobKeys.of(f"job-{number}").job, mapping={"total": 1, "state": "open"})
    pipe.execute()
    looks = [list(reconcile.open_jobs(ledger)) for _ in range(5)]
    assert all(90 < len(look) <= 100 for look in looks)
    assert len(set().union(*looks)) > max(map(len, looks)), "others each time"
    assert len(ledger.jobs()) == 3000 and ledger.jobs(2) == ["job-998", "job-999"]


def test_a_made_up_job_costs_no_feeder_memory(ledger: Ledger, client: redis.Redis) -> None:
    """Before: 57 jobs of 65,000 sizes each were 263 MB and 13 s, at each step of a feeder."""
    client.hset(JobKeys.of("made up").blobs, mapping={str(number): "1" for number in range(blobs.MOST_BLOBS + 1)})
    client.hset(JobKeys.of("job").blobs, mapping={"0": "5"})
    assert blobs.waiting_bytes(client, ["made up", "job"]) == 5


def test_a_counter_of_no_number_costs_no_scrape(ledger: Ledger, client: redis.Redis) -> None:
    client.hset(COUNTERS_KEY, mapping={b"\xff": "x", "ok": "3"})
    assert take_sample(ledger, 0).counters["ok"] == 3


def test_a_counter_of_no_number_costs_no_record(ledger: Ledger, client: redis.Redis) -> None:
    """Before: each page that was done from then on counted as done, and its record was lost."""
    client.hset(COUNTERS_KEY, mapping={"ok": "x"})
    ledger.create("job", 1, {})
    ledger.feed([ImageTask(job="job", index=0, image="a", uri="file:///a")])
    ledger.begin("job", 0, redelivered=False)
    assert ledger.finish("job", 0, ok=True, record=b"{}")
    assert client.xlen(JobKeys.of("job").results) == 1
    status = ledger.status("job")
    assert status and status.ok == 1 and status.finished


OTHER_TYPES = {"string": "SET {} x", "list": "RPUSH {} x", "hash": "HSET {} x x", "stream": "XADD {} * x x"}


@pytest.mark.parametrize("other", OTHER_TYPES)
@pytest.mark.parametrize("part", [*JobKeys._fields[2:], "jobs", "counters"])
def test_no_key_of_another_type_costs_a_record(ledger: Ledger, client: redis.Redis, part: str, other: str) -> None:
    """One key is spoilt before each step of a page's way. Before: states were written, and then XADD was refused."""
    key = {"jobs": JOBS_KEY, "counters": COUNTERS_KEY}.get(part) or getattr(JobKeys.of("job"), part)

    def spoil() -> None:
        client.delete(key)
        client.execute_command(*OTHER_TYPES[other].format(key).split())

    spoil()
    assert ledger.create("job", 3, {}, epoch="e")
    tasks = [ImageTask(job="job", index=index, image="a", uri="file:///a", epoch="e") for index in range(3)]
    spoil()
    assert ledger.feed(tasks) == [0, 1, 2]
    spoil()
    assert ledger.begin("job", 0, redelivered=False, epoch="e").verdict == "run"
    spoil()
    ledger.renew("job", 0, epoch="e")
    spoil()
    assert ledger.lose("job", 0, "WorkerLost", epoch="e")
    spoil()
    ledger.reclaim("job", 0)
    spoil()
    assert ledger.finish("job", 0, ok=True, record=b"{}", epoch="e")
    assert client.xlen(JobKeys.of("job").results) >= 1
    spoil()
    assert ledger.adopt("job", [1], ok=False) == 1 and ledger.retry("job", [1]) == 1
    spoil()
    assert ledger.unfeed("job", [2]) == 1 and ledger.redo("job", [0]) == 1
    status = ledger.status("job")
    assert status and (status.ok, status.failed) == (0, 0)


@pytest.mark.parametrize("part", ["job", "state"])
def test_a_job_without_its_hash_or_states_changes_nothing(ledger: Ledger, client: redis.Redis, part: str) -> None:
    ledger.create("job", 2, {})
    ledger.feed([ImageTask(job="job", index=0, image="a", uri="file:///a")])
    key = getattr(JobKeys.of("job"), part)
    client.delete(key)
    client.sadd(key, "x")
    before = {key: client.dump(key) for key in client.scan_iter()}
    steps = [
        lambda: ledger.finish("job", 0, ok=True, record=b"{}"),
        lambda: ledger.begin("job", 0, redelivered=False),
        lambda: ledger.lose("job", 0, "WorkerLost"),
        lambda: ledger.reclaim("job", 0),
        lambda: ledger.unfeed("job", [0]),
        lambda: ledger.redo("job", [0]),
        lambda: ledger.adopt("job", [0], ok=True),
    ]
    for step in steps:
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            step()
    assert {key: client.dump(key) for key in client.scan_iter()} == before


@pytest.mark.parametrize("strange", [*STRANGE[:-1], "nan", "inf", "9223372036854775807"])
def test_no_field_of_another_kind_costs_a_record(ledger: Ledger, client: redis.Redis, strange: str) -> None:
    ledger.create("job", 2, {})
    ledger.feed([ImageTask(job="job", index=index, image="a", uri="file:///a") for index in range(2)])
    names = ("total", "ok", "failed", "created_ms", "kept_ms", "progress_ms", "finished_ms", "fed_ms")
    client.delete(JOBS_KEY)
    for index in range(2):
        client.hset(JobKeys.of("job").job, mapping=dict.fromkeys(names, strange))
        client.hset(JobKeys.of("job").attempts, str(index), strange)
        ledger.begin("job", index, redelivered=False)
        client.hset(JobKeys.of("job").job, mapping=dict.fromkeys(names, strange))
        assert ledger.finish("job", index, ok=not index, record=b"{}")
    assert client.xlen(JobKeys.of("job").results) == 2 and ledger.jobs() == ["job"]


def test_what_is_no_count_is_counted_anew(ledger: Ledger, client: redis.Redis) -> None:
    ledger.create("job", 3, {})
    ledger.feed([ImageTask(job="job", index=index, image="a", uri="file:///a") for index in range(3)])
    for index in range(3):
        ledger.begin("job", index, redelivered=False)
        client.hset(JobKeys.of("job").job, mapping={"ok": "x", "failed": "x"})
        assert ledger.finish("job", index, ok=index != 1, record=b"{}")
    status = ledger.status("job")
    assert status and (status.ok, status.failed, status.finished) == (2, 1, True) and status.finished_s


@pytest.mark.parametrize("spoil", [lambda client, key: client.set(key, "x"), lambda client, key: client.sadd(key, "x")])
def test_a_collector_lock_of_a_stranger_lapses(client: redis.Redis, spoil: object) -> None:
    """Before: `SET ocrfleet:job:J:collector x` kept everybody from the job's results for good."""
    assert callable(spoil)
    spoil(client, "ocrfleet:job:job:collector")
    lock = JobLock(client, "ocrfleet:job:job:collector", "job")
    with suppress(AlreadyCollectingError):
        lock.take()
    assert 0 < client.ttl("ocrfleet:job:job:collector") <= LOCK_S
    lock.release()


def test_leases_of_no_page_hide_no_page(ledger: Ledger, client: redis.Redis, settings: Settings) -> None:
    """256 lapsed leases are looked at at once: before, so many made-up ones were the same ones each time."""
    ledger.create("job", 2, {})
    ledger.feed([ImageTask(job="job", index=index, image="a", uri="file:///a") for index in range(2)])
    for index in range(2):
        ledger.begin("job", index, redelivered=False)
    keys = JobKeys.of("job")
    client.hdel(keys.tasks, 1)
    client.zadd(keys.leases, {"0": 5, "1": 5, **dict.fromkeys(map(str, range(100, 500)), 1)})
    client.zadd(keys.leases, {f"x{number}": 0 for number in range(300)})
    assert len(ledger.lapsed("job")) == LAPSED_AT_ONCE, "what is no page's number goes at once"
    sent = [reconcile.send_again(app_for(settings), ledger, "job", ledger.lapsed("job")) for _ in range(3)]
    assert sum(sent) == 1 and not client.exists(keys.leases)
    assert list(ledger.pages_in_state("job", b"\0")) == [1], "its task is gone: its producer feeds it again"


def test_a_look_at_very_many_pages_ends_in_time(
    ledger: Ledger,
    client: redis.Redis,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    each_look_takes_a_millisecond: None,
) -> None:
    """Before: 65,536 made-up pages of one job were as many round trips, and a worker took no message meanwhile."""
    pages = 2_000
    ledger.create("job", pages, {})
    client.hset(JobKeys.of("job").tasks, mapping={str(index): "1 {}" for index in range(pages)})
    client.hset(JobKeys.of("job").holders, mapping=dict.fromkeys(map(str, range(pages)), _gone()))
    client.zadd(JobKeys.of("job").leases, dict.fromkeys(map(str, range(pages)), 1))
    client.setrange(JobKeys.of("job").state, 0, "r" * pages)
    assert len(ledger.lapsed("job")) == LAPSED_AT_ONCE
    monkeypatch.setattr(self_care, "main_ledger", lambda: ledger)
    monkeypatch.setattr(reconcile, "held_by_nobody", lambda ledger, job, indices: indices)
    care = self_care.SelfCare(app_for(settings), lambda seconds, step: None)
    care._missing = {"job": list(range(pages))}
    for step in (care.confirm, care.begin):
        before = sum(1 for _ in ledger.pages_in_state("job", b"\0"))
        step()
        assert 80 < sum(1 for _ in ledger.pages_in_state("job", b"\0")) - before <= 100


def _gone() -> str:
    place, _, started = identity().rpartition(":")
    return f"{place.rpartition(':')[0]}:{2**22 + 1}:{started}"


def test_a_stream_that_is_at_its_end_costs_no_record(ledger: Ledger, client: redis.Redis) -> None:
    """Before: one entry with the last id there is, and no page of the job could be recorded any more."""
    last = "18446744073709551615-18446744073709551615"
    ledger.create("job", 3, {})
    ledger.feed([ImageTask(job="job", index=index, image="a", uri="file:///a") for index in range(3)])
    results = JobKeys.of("job").results
    for index in range(3):
        ledger.begin("job", index, redelivered=False)
        client.xadd(results, dict.fromkeys(map(str, range(20_000)), "x") if index == 1 else {"x": "y"}, id=last)
        client.xdel(results, last) if index == 2 else None
        assert ledger.finish("job", index, ok=True, record=b"%d" % index)
        client.xtrim(results, minid="2")
    records = [fields[b"record"] for _, fields in client.xrange(results) if b"record" in fields]
    assert records == [b"0", b"1", b"2"]
    client.xadd(DEAD_KEY, {"x": "y"}, id=last)
    assert ledger.retry("job", []) == 0
    ledger.redo("job", [0])
    ledger.feed([ImageTask(job="job", index=0, image="a", uri="file:///a")])
    assert record_dead_letter(ledger, failed_record(ImageTask(job="job", index=0, image="a", uri=""), "Internal", "x"))


def test_a_blob_that_no_producer_sends_fills_no_disk(client: redis.Redis, tmp_path: Path) -> None:
    """Before: as much as Redis holds, and a worker whose spool was full by it gave its pages to others."""
    client.setrange("ocrfleet:blob:job:0", MAX_BLOB_BYTES, "x")
    with pytest.raises(TooLarge, match="64 MB"):
        blobs.fetch(client, blobs.blob_uri("job", 0), tmp_path / "page")
    assert (tmp_path / "page").stat().st_size <= MAX_BLOB_BYTES


def test_names_without_a_job_leave_the_index(
    ledger: Ledger, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: 50,000 of them, as if they were newer, hid each real job until the night."""
    monkeypatch.setattr(reconcile, "LOOK_S", 60)
    ledger.create("job", 1, {})
    client.zadd(JOBS_KEY, dict.fromkeys((f"made up {number}" for number in range(200)), 1e18))
    client.sadd(JobKeys.of("damaged").job, "x")
    client.zadd(JOBS_KEY, {"damaged": 1})
    assert list(reconcile.open_jobs(ledger)) == ["job"]
    assert sorted(client.zrange(JOBS_KEY, 0, -1)) == [b"damaged", b"job"]
