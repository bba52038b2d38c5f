"""A job lives while anybody works on it, looks at it or waits for it, however short its TTL, by Redis' clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from unittest import mock

import pytest

from worker.broker import blobs, queue
from worker.ledger import reconcile
from worker.ledger.ledger import Ledger
from worker.messages import ImageTask
from worker.ops.cleanup import clean_redis
from worker.redis_keys import JOBS_KEY, JobKeys, blob_key
from worker.settings import Settings

JOB = "job"
TTL_S = 2


@pytest.fixture
def brief(ledger: Ledger) -> Ledger:
    """Jobs live for two seconds."""
    return Ledger(ledger.client, ttl_s=TTL_S)


def tasks(count: int) -> list[ImageTask]:
    return [ImageTask(job=JOB, index=index, image=f"{index}", uri="file:///a") for index in range(count)]


def renewing(ledger: Ledger) -> None:
    assert ledger.renew(JOB, 0)


def watching(ledger: Ledger) -> None:
    assert ledger.touch(JOB)


def finishing(ledger: Ledger) -> None:
    index = next(ledger.pages_in_state(JOB, b"q"))
    ledger.begin(JOB, index, redelivered=False)
    assert ledger.finish(JOB, index, ok=True, record=b"{}")


@pytest.mark.slow
@pytest.mark.parametrize("activity", [renewing, watching, finishing])
def test_any_activity_keeps_the_whole_job(brief: Ledger, activity: Callable[[Ledger], None]) -> None:
    """Before: ``ocrfleet:jobs`` expired after the TTL whatever happened, and the others where 64 pages took longer."""
    brief.create(JOB, 60, {})
    brief.feed(tasks(60))
    blobs.put(brief.client, JOB, {59: b"x"}, TTL_S)
    brief.begin(JOB, 0, redelivered=False)
    until = time.monotonic() + 3 * TTL_S
    while time.monotonic() < until:
        activity(brief)
        time.sleep(0.3)
    keys = JobKeys.of(JOB)
    assert brief.jobs() == [JOB]
    for key in (JOBS_KEY, keys.job, keys.state, keys.tasks, keys.leases, keys.attempts, blob_key(JOB, 59)):
        assert brief.client.ttl(key) in (1, 2), key
    time.sleep(TTL_S + 0.5)
    assert brief.client.keys("ocrfleet:*") in ([], [b"ocrfleet:counters"]), "and then it goes"


def test_a_job_that_lost_its_place_in_the_index_gets_it_back(brief: Ledger) -> None:
    brief.create(JOB, 1, {})
    brief.client.delete(JOBS_KEY)
    time.sleep(0.3)
    brief.touch(JOB)
    assert brief.jobs() == [JOB]


@pytest.mark.parametrize("ahead_s", [86400, -86400])
def test_a_machine_whose_clock_is_a_day_off(ledger: Ledger, settings: Settings, ahead_s: int) -> None:
    """Before: a worker a day ahead, killed, left its page untouched for a day; a cleanup on a machine four days ahead
    forgot a job with 24 uncollected records."""
    real = time.time()
    with mock.patch("time.time", lambda: real + ahead_s):
        ledger.create(JOB, 2, {})
        ledger.feed(tasks(2))
        ledger.begin(JOB, 0, redelivered=False)
    score = ledger.client.zscore(JobKeys.of(JOB).leases, 0)
    assert score is not None and abs(score / 1000 - real - 30) < 5, "a lease of 30 s, by the broker's clock"
    status = ledger.status(JOB)
    assert status is not None and abs(status.created_s - real) < 5
    with mock.patch("time.time", lambda: real + 4 * ahead_s):
        assert clean_redis(ledger, replace(settings, result_ttl_h=1.0))["jobs"] == 0
        assert ledger.lapsed(JOB) == []
        assert reconcile.suspects(ledger, JOB) == ([], [])


def test_held_messages_are_judged_by_the_brokers_clock(ledger: Ledger) -> None:
    ledger.create(JOB, 1, {})
    ledger.feed(tasks(1))
    ledger.client.hset(queue.UNACKED, "tag", b'[{"headers": {"id": "job:0"}}, "", ""]')
    ledger.client.zadd(queue.UNACKED_INDEX, {"tag": ledger.now()})
    real = time.time()
    with mock.patch("time.time", lambda: real + 86400):
        assert reconcile.held_by_nobody(ledger, JOB, [0]) == []


def test_a_retry_is_one_step(ledger: Ledger) -> None:
    """Before: the uncollected record went first, then the page's state: killed in between, the page had neither."""
    ledger.create(JOB, 3, {})
    ledger.feed(tasks(3))
    for index in range(3):
        ledger.begin(JOB, index, redelivered=False)
        ledger.finish(JOB, index, ok=index == 0, record=b'{"index": %d}' % index)
    results = JobKeys.of(JOB).results
    [_, first, second] = [entry for entry, _ in ledger.client.xrange(results)]
    calls = 0

    def killed(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    with mock.patch.object(ledger.client, "evalsha", killed), pytest.raises(KeyboardInterrupt):
        ledger.retry(JOB, [1, 2], {1: first, 2: second})
    assert calls == 1 and ledger.client.xlen(results) == 3, "killed before: nothing was done"
    assert ledger.retry(JOB, [1, 2], {1: first, 2: second}) == 2
    assert ledger.client.xlen(results) == 1 and list(ledger.pages_in_state(JOB, b"\0")) == [1, 2]


def test_a_job_whose_hash_is_gone_stays_gone(ledger: Ledger) -> None:
    """Before: a look for stranded pages made a hash of a time alone; it was another producer's job for ever."""
    ledger.create(JOB, 4, {}, epoch="e")
    of_job = [ImageTask(job=JOB, index=index, image=f"{index}", uri="file:///a", epoch="e") for index in range(4)]
    ledger.feed(of_job)
    ledger.begin(JOB, 1, redelivered=False, epoch="e")
    ledger.begin(JOB, 2, redelivered=False)
    ledger.expire_leases(JOB)
    ledger.client.delete(JobKeys.of(JOB).job)
    assert [ledger.reclaim(JOB, index) for index in range(4)] == [None] * 4
    ledger.renew(JOB, 1, epoch="e")
    ledger.lose(JOB, 1, "WorkerLost", epoch="e")
    ledger.finish(JOB, 1, ok=True, record=b"{}", epoch="e")
    ledger.unfeed(JOB, [0, 3])
    ledger.reopen(JOB)
    assert not ledger.cancel(JOB) and not ledger.touch(JOB) and not ledger.note(JOB, {"a": "b"})
    assert not ledger.client.exists(JobKeys.of(JOB).job)
