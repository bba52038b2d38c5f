"""What is as it should be stays as it is, whoever looks."""

from __future__ import annotations

import pytest
import redis

from worker.ledger import Ledger
from worker.ledger.comparison import Comparison, Found
from worker.ledger.ledger import JobReplacedError, JobStatus
from worker.messages import ImageTask
from worker.redis_keys import JobKeys

PAGES = 6
KEYS = JobKeys.of("job")


def status_of(ledger: Ledger) -> JobStatus:
    status = ledger.status("job")
    assert status is not None
    return status


def everything(client: redis.Redis) -> tuple[object, ...]:
    hashes = [client.hgetall(key) for key in (KEYS.job, KEYS.tasks, KEYS.attempts, KEYS.holders)]
    return (*hashes, client.get(KEYS.state), client.zrange(KEYS.leases, 0, -1, withscores=True))


@pytest.fixture
def job(ledger: Ledger) -> bytes:
    """What is on disk of a job: 0 is done, 1 has failed and is tried again, 2 is queued, 3 runs, 4 is not fed, 5 was
    collected by somebody else."""
    ledger.create("job", PAGES, {}, epoch="e")
    pages = [ImageTask(job="job", index=index, image="a", uri="file:///a", epoch="e") for index in (0, 1, 2, 3, 5)]
    ledger.feed(pages)
    for index in (0, 1, 5):
        ledger.finish("job", index, ok=index != 1, record=b"{}", epoch="e")
    ledger.retry("job", [1])
    ledger.begin("job", 3, redelivered=False, epoch="e")
    ledger.client.delete(KEYS.results)
    return b"of\0\0\0\0"


def test_nothing_is_wrong(ledger: Ledger, client: redis.Redis, job: bytes) -> None:
    status, before = status_of(ledger), everything(client)
    comparison = Comparison(ledger, "job", status)
    for all_pages in (True, False):
        look = comparison.put_right(status, lambda begin, end: job, pages=PAGES, all_pages=all_pages, redo=False)
        assert look == Found(False)
    assert comparison.put_right(status, None, pages=PAGES, all_pages=False, redo=False) == Found(False)
    assert everything(client) == before


def test_a_record_that_waits_comes_first(ledger: Ledger, client: redis.Redis, job: bytes) -> None:
    """It may be the one that is missed."""
    client.xadd(KEYS.results, {"record": "{}"})
    status, before = status_of(ledger), everything(client)
    look = Comparison(ledger, "job", status).put_right(
        status, lambda begin, end: job, pages=PAGES, all_pages=True, redo=True
    )
    assert look.wrong and everything(client) == before


def test_what_has_no_record_anywhere_is_done_again(ledger: Ledger, client: redis.Redis, job: bytes) -> None:
    status = status_of(ledger)
    look = Comparison(ledger, "job", status).put_right(
        status, lambda begin, end: job, pages=PAGES, all_pages=True, redo=True
    )
    assert look == Found(True, 1) and client.get(KEYS.state) == b"o\0qr\0\0"
    assert (status_of(ledger).ok, status_of(ledger).failed) == (1, 0)


def test_another_job_of_the_name_is_left_alone(ledger: Ledger, client: redis.Redis, job: bytes) -> None:
    comparison = Comparison(ledger, "job", status_of(ledger))
    ledger.forget("job")
    ledger.create("job", PAGES, {}, epoch="f")
    client.hset(KEYS.job, "created_ms", "1")
    before = everything(client)
    with pytest.raises(JobReplacedError):
        comparison.put_right(status_of(ledger), lambda begin, end: job, pages=PAGES, all_pages=True, redo=True)
    assert everything(client) == before
