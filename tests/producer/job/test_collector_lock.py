"""Two collectors never write one file, whatever sleeps in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.job.collect import Collector
from producer.job.collector_lock import AlreadyCollectingError
from worker.ledger import Ledger
from worker.messages import ImageRecord, ImageTask, encode
from worker.redis_keys import JobKeys

JOB = "job"
LOCK = f"{JobKeys.of(JOB).job}:collector"


@pytest.fixture
def job(ledger: Ledger) -> Ledger:
    """A job of one page, done."""
    ledger.create(JOB, 1, {})
    ledger.feed([ImageTask(job=JOB, index=0, image="0.jpg", uri="file:///0.jpg")])
    ledger.begin(JOB, 0, redelivered=False)
    ledger.finish(JOB, 0, ok=True, record=encode(ImageRecord(job=JOB, index=0, image="0.jpg", page=0, status="ok")))
    return ledger


def test_a_collector_that_slept_appends_nothing(job: Ledger, tmp_path: Path) -> None:
    """Before: the lock was set again, whoever had it by then: 256 records twice."""
    with Collector(job, JOB, tmp_path / "a.jsonl", 1) as sleeper:
        job.client.delete(LOCK)  # it lapsed
        with Collector(job, JOB, tmp_path / "b.jsonl", 1):
            with pytest.raises(AlreadyCollectingError):
                sleeper.step(block_ms=0)
            assert (tmp_path / "a.jsonl").read_bytes() == b""
            assert job.client.xlen(JobKeys.of(JOB).results) == 1
            sleeper._release_lock(failed=False)
            assert job.client.exists(LOCK), "the other's lock is not given back"


def test_one_file_has_one_collector_though_the_lock_lapsed(job: Ledger, tmp_path: Path) -> None:
    with Collector(job, JOB, tmp_path / "a.jsonl", 1):
        job.client.delete(LOCK)
        with pytest.raises(AlreadyCollectingError, match=r"a\.jsonl"):
            Collector(job, JOB, tmp_path / "a.jsonl", 1).__enter__()


def test_a_lock_that_lapsed_and_that_nobody_took_is_taken_again(job: Ledger, tmp_path: Path) -> None:
    with Collector(job, JOB, tmp_path / "a.jsonl", 1) as collector:
        job.client.delete(LOCK)
        assert len(collector.step(block_ms=0)) == 1
        assert 0 < job.client.ttl(LOCK) <= 30
