"""What whoever has a worker's password may write over a job's keys: it costs that job alone."""

from __future__ import annotations

import time

import pytest
import redis

from producer.job.status import StatusRow
from worker.app import app_for
from worker.broker import blobs
from worker.ledger import Ledger, reconcile
from worker.ledger.share import Share
from worker.messages import ImageTask
from worker.ops.exporter import take_sample
from worker.process_identity import identity, is_gone
from worker.redis_keys import COUNTERS_KEY, JOBS_KEY, JobKeys
from worker.settings import Settings

STRANGE = ["x", "9" * 5000, "-1", "1e5", "1e308", "٣"]


@pytest.mark.parametrize("strange", STRANGE)
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
    assert blobs.waiting_bytes(client, ["job"]) == 7
    status = ledger.status("job")
    assert status is not None and abs(StatusRow.of(status).total) < 1e15
    assert blobs.discard(client, "job") == 2


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


def test_a_look_at_very_many_jobs_ends_in_time(
    ledger: Ledger, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: 50,000 made-up jobs kept each worker's main process from its messages for 25 to 35 s at each look."""
    pipe = client.pipeline(transaction=False)
    for number in range(3000):
        pipe.zadd(JOBS_KEY, {f"job-{number}": 1})
        pipe.hset(JobKeys.of(f"job-{number}").job, mapping={"total": 1, "state": "open"})
    pipe.execute()
    monkeypatch.setattr(reconcile, "LOOK_S", 0.02)
    began = time.monotonic()
    looks = [list(reconcile.open_jobs(ledger)) for _ in range(5)]
    assert time.monotonic() - began < 2 and all(0 < len(look) < 2000 for look in looks)
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
