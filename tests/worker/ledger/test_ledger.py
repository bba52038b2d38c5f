"""The ledger's promises, against a real server: one record a page, first writer wins, small keys."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, strategies
from hypothesis import settings as hypothesis_settings

from worker.ledger.ledger import Ledger, chunked
from worker.ledger.patient import open_ledger
from worker.messages import ImageTask
from worker.redis_keys import JOBS_KEY, JobKeys
from worker.settings import Settings

JOB = "job-1"


def tasks(count: int, job: str = JOB) -> list[ImageTask]:
    return [ImageTask(job=job, index=index, image=f"{index}.jpg", uri=f"file:///{index}.jpg") for index in range(count)]


@pytest.fixture
def job(ledger: Ledger) -> Ledger:
    """A ledger with a job of three fed pages."""
    assert ledger.create(JOB, 3, {"out": "/somewhere"})
    assert ledger.feed(tasks(3)) == [0, 1, 2]
    return ledger


def test_creating_twice_changes_nothing(job: Ledger) -> None:
    job.begin(JOB, 0, redelivered=False)
    job.finish(JOB, 0, ok=True, record=b"{}")
    assert not job.create(JOB, 99, {})
    status = job.status(JOB)
    assert status is not None
    assert (status.total, status.ok, status.extra) == (3, 1, {"out": "/somewhere"})


def test_a_status_takes_little_of_what_a_stranger_wrote(job: Ledger) -> None:
    """Before: 40 made-up jobs of 4 MB each, and the page that lists them took 2.4 GB."""
    key = JobKeys.of(JOB).job
    many = {f"field-{number}": "x" for number in range(100)}
    job.client.hset(key, mapping={"state": "s" * 600_000, "epoch": "e" * 600_000, "note": "n" * 600_000, **many})
    status = job.status(JOB)
    assert status is not None
    assert status.state == "open" and len(status.epoch) == 64
    assert len(status.extra) == 32 and "note" not in status.extra


def test_feeding_twice_sends_nothing_twice(job: Ledger) -> None:
    assert job.feed(tasks(3)) == []
    assert sorted(job.in_flight(JOB)) == [0, 1, 2]


def test_first_record_wins(job: Ledger) -> None:
    assert job.begin(JOB, 1, redelivered=False).verdict == "run"
    assert job.finish(JOB, 1, ok=True, record=b"first")
    assert not job.finish(JOB, 1, ok=False, record=b"second")
    records = [fields[b"record"] for _, fields in job.client.xrange(JobKeys.of(JOB).results)]
    assert records == [b"first"]
    assert job.begin(JOB, 1, redelivered=True).verdict == "done"


def test_a_duplicate_of_a_running_page_is_busy_but_a_redelivery_takes_over(job: Ledger) -> None:
    assert job.begin(JOB, 0, redelivered=False) == ("run", 1, ())
    assert job.begin(JOB, 0, redelivered=False).verdict == "busy"
    assert job.begin(JOB, 0, redelivered=True) == ("run", 2, ())


def test_a_worker_whose_answer_was_lost_is_not_told_that_the_page_is_busy(
    settings: Settings, job: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis ran BEGIN and went away before its answer. The child asked again, was told that another worker had the
    page (it was itself), dropped the message, and the page waited for 30 s."""
    patient = open_ledger(settings, patient=True)
    connections = patient.client.connection_pool.connection_class
    read, lost = connections.read_response, []

    def deaf(connection: object, *arguments: Any, **options: Any) -> object:
        answer = read(connection, *arguments, **options)
        if isinstance(answer, list) and answer[0] in (b"run", b"exhausted") and answer[0] not in lost:
            lost.append(answer[0])
            raise redis.ConnectionError
        return answer

    monkeypatch.setattr(connections, "read_response", deaf)
    patient.max_attempts = 1
    assert patient.begin(JOB, 1, redelivered=False) == ("run", 1, ())
    assert patient.begin(JOB, 1, redelivered=False).verdict == "busy", "another message of the page"
    patient.lose(JOB, 1, "WorkerLost")
    assert patient.begin(JOB, 1, redelivered=False) == ("exhausted", 1, ("WorkerLost",))
    assert lost == [b"run", b"exhausted"]


def test_tries_end_after_max_attempts_with_their_reasons(job: Ledger) -> None:
    for attempt in (1, 2, 3):
        begin = job.begin(JOB, 2, redelivered=attempt > 1)
        assert (begin.verdict, begin.attempts, len(begin.losses)) == ("run", attempt, attempt - 1)
        assert job.lose(JOB, 2, "WorkerLost" if attempt < 3 else "OutOfMemory")
    begin = job.begin(JOB, 2, redelivered=True)
    assert begin == ("exhausted", 3, ("WorkerLost", "WorkerLost", "OutOfMemory"))
    # The one who was told "exhausted" may write the failed record.
    assert job.finish(JOB, 2, ok=False, record=b"dead")


def test_lease_lapses_is_reclaimed_once_and_renewal_fails_then(job: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    job.lease_s = 0.05
    job.begin(JOB, 0, redelivered=False)
    assert job.renew(JOB, 0)
    assert job.lapsed(JOB) == []
    assert job.reclaim(JOB, 0) is None
    time.sleep(0.1)
    assert job.lapsed(JOB) == [0]
    data = job.reclaim(JOB, 0)
    assert data is not None and b"0.jpg" in data
    assert job.lapsed(JOB) == []
    assert not job.renew(JOB, 0), "the old holder must learn that it lost the page"


def test_cancelled_and_unknown_jobs_run_nothing(job: Ledger) -> None:
    assert job.cancel(JOB)
    assert job.begin(JOB, 0, redelivered=False).verdict == "cancelled"
    assert job.feed([ImageTask(job=JOB, index=9, image="9", uri="file:///9")]) == []
    assert job.begin("nobody", 0, redelivered=False).verdict == "unknown"
    assert not job.cancel("nobody")


def test_retry_makes_failed_pages_unfed(job: Ledger) -> None:
    for index in range(3):
        job.begin(JOB, index, redelivered=False)
        job.finish(JOB, index, ok=index != 1, record=b"{}")
    status = job.status(JOB)
    assert status is not None and status.finished and status.finished_s
    assert job.retry(JOB, [0, 1, 2]) == 1
    status = job.status(JOB)
    assert status is not None and not status.finished and (status.ok, status.failed) == (2, 0)
    assert job.feed(tasks(3)) == [1]


def test_adopting_what_is_on_disk(job: Ledger) -> None:
    assert job.adopt(JOB, [0, 2], ok=True) == 2
    assert job.adopt(JOB, [0, 2], ok=True) == 0
    assert job.begin(JOB, 0, redelivered=False).verdict == "done"
    assert sorted(job.in_flight(JOB)) == [1]


def test_adopting_many_is_one_write(ledger: Ledger) -> None:
    """Before: two commands and 7 us for each page, of a million that were done 8 s at each start of a local job."""
    ledger.create(JOB, 3000, {})
    ledger.client.config_resetstat()
    assert ledger.adopt(JOB, range(1000), ok=True) == 1000
    assert ledger.client.info("commandstats")["cmdstat_setrange"]["calls"] < 10
    ledger.feed([task for task in tasks(2002) if task.index in (1500, 2000, 2001)])
    assert ledger.adopt(JOB, [999, 1000, 1001, 1400, 2000], ok=False) == 4
    assert ledger.adopt(JOB, range(900, 2900), ok=True) == 1896, "but what is done, also beside what runs"
    status = ledger.status(JOB)
    assert status is not None and (status.ok, status.failed, status.finished) == (2896, 4, False)
    assert sorted(ledger.in_flight(JOB)) == []
    assert ledger.adopt(JOB, range(2900, 3000), ok=True) == 100
    status = ledger.status(JOB)
    assert status is not None and status.finished and ledger.client.strlen(JobKeys.of(JOB).state) == 3000


def test_a_page_costs_one_byte_once_it_is_collected(ledger: Ledger) -> None:
    count = 2000
    ledger.create(JOB, count, {})
    before = sum(ledger.client.memory_usage(key) or 0 for key in JobKeys.of(JOB))
    for batch in chunked(range(count), 100):
        ledger.feed([task for task in tasks(count) if task.index in set(batch)])
        for index in batch:
            ledger.begin(JOB, index, redelivered=False)
            ledger.finish(JOB, index, ok=True, record=b"x" * 500)
        ledger.client.delete(JobKeys.of(JOB).results, JobKeys.of(JOB).entries)
    after = sum(ledger.client.memory_usage(key) or 0 for key in JobKeys.of(JOB))
    assert after - before < 2048, "nothing but the state bytes, reserved at creation, may stay of a page"
    assert list(ledger.pages_in_state(JOB, b"o")) == list(range(count))


def test_every_key_has_a_ttl(job: Ledger) -> None:
    job.begin(JOB, 0, redelivered=False)
    job.begin(JOB, 1, redelivered=False)
    job.lose(JOB, 1, "WorkerLost")
    job.finish(JOB, 0, ok=True, record=b"{}")
    without = [key for key in job.client.keys("ocrfleet:*") if job.client.ttl(key) < 0]
    assert without == []
    assert job.client.ttl(JOBS_KEY) > 0


def test_forgetting_leaves_no_key(job: Ledger) -> None:
    job.forget(JOB)
    assert job.client.keys(f"ocrfleet:job:{JOB}*") == []
    assert job.jobs() == []


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    strategies.lists(
        strategies.tuples(
            strategies.sampled_from(["begin", "again", "lose", "ok", "failed", "reclaim", "feed"]),
            strategies.integers(0, 2),
        ),
        max_size=60,
    )
)
def test_any_order_of_steps_keeps_the_books(ledger: Ledger, steps: list[tuple[str, int]]) -> None:
    """Whatever is called in whatever order: at most one record a page, and the counts agree with the records."""
    ledger.client.flushall()
    ledger.create(JOB, 3, {})
    ledger.feed(tasks(3)[:2])
    taken = 0
    for step, index in steps:
        if step in ("begin", "again"):
            ledger.begin(JOB, index, redelivered=step == "again")
        elif step == "lose":
            ledger.lose(JOB, index, "WorkerLost")
        elif step == "reclaim":
            ledger.reclaim(JOB, index)
        elif step == "feed":
            ledger.feed(tasks(3))
        else:
            taken += ledger.finish(JOB, index, ok=step == "ok", record=b"%d" % index)
    status = ledger.status(JOB)
    assert status is not None
    recorded = [fields[b"record"] for _, fields in ledger.client.xrange(JobKeys.of(JOB).results)]
    assert len(recorded) == len(set(recorded)) == taken == status.done
    assert len(list(ledger.pages_in_state(JOB, b"of"))) == taken
    assert set(ledger.in_flight(JOB)) == set(ledger.pages_in_state(JOB, b"qr"))
