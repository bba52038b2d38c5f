"""Two collectors never write one file, whatever sleeps in between."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from producer.job.collect import Collector
from producer.job.collector_lock import AlreadyCollectingError
from worker.ledger import Ledger
from worker.messages import ImageRecord, ImageTask, encode, failed_record
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


@pytest.fixture
def made_good(job: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A failed record, which goes when its collector ends, for a retry made it good; the lock is kept at each line."""
    monkeypatch.setattr("producer.job.results_file.TICK_LINES", 1)
    results = tmp_path / "a.jsonl"
    failed = failed_record(ImageTask(job=JOB, index=0, image="0.jpg", uri="file:///0.jpg"), "CorruptImage", "broken")
    results.write_bytes(encode(failed) + b"\n")
    return results


def test_the_lock_is_kept_while_the_file_is_rewritten(job: Ledger, made_good: Path) -> None:
    """Before: ten million lines take a minute, the lock 30 s; then another's records would have been lost."""
    with pytest.raises(AlreadyCollectingError), Collector(job, JOB, made_good, 1) as collector:
        assert len(collector.step(block_ms=0)) == 1
        both = made_good.read_bytes()
        assert both.count(b"\n") == 2
        job.client.set(LOCK, b"elsewhere:1 token")
    assert made_good.read_bytes() == both
    assert job.client.get(LOCK) == b"elsewhere:1 token"
    job.client.delete(LOCK)
    with Collector(job, JOB, made_good, 1):
        pass
    assert made_good.read_bytes().count(b"\n") == 1


def test_a_broker_that_is_gone_keeps_no_file_from_being_rewritten(
    job: Ledger, made_good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def gone() -> bytes:
        asked.append(1)
        raise redis.ConnectionError

    with Collector(job, JOB, made_good, 1) as collector:
        collector.step(block_ms=0)
        monkeypatch.setattr(collector._lock, "_holder", gone)
    assert made_good.read_bytes().count(b"\n") == 1 and b"failed" not in made_good.read_bytes()
    assert len(asked) == 1, "not at each of a hundred looks"
