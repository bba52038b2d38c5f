"""Collecting is exactly once: crashes, repeats, retries, and two collectors at once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from producer.collect import AlreadyCollecting, Collector, drop_failed
from worker.ledger import JobKeys, Ledger
from worker.messages import ImageRecord, ImageTask, encode, failed_record

JOB = "job"


def task(index: int) -> ImageTask:
    return ImageTask(job=JOB, index=index, image=f"{index}.jpg", uri=f"file:///{index}.jpg")


def finish(ledger: Ledger, index: int, *, ok: bool = True) -> None:
    ledger.feed([task(index)])
    ledger.begin(JOB, index, redelivered=False)
    if ok:
        record = ImageRecord(job=JOB, index=index, image=f"{index}.jpg", page=0, status="ok")
    else:
        record = failed_record(task(index), "CorruptImage", "broken")
    assert ledger.finish(JOB, index, ok=ok, record=encode(record))


@pytest.fixture
def job(ledger: Ledger) -> Ledger:
    ledger.create(JOB, 5, {})
    return ledger


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def on_disk(results: Path) -> list[tuple[int, str]]:
    return [(record["index"], record["status"]) for record in map(json.loads, results.read_text().splitlines())]


def test_records_move_from_redis_to_disk(job: Ledger, results: Path) -> None:
    finish(job, 3)
    finish(job, 1, ok=False)
    with Collector(job, JOB, results, 5) as collector:
        assert [line.index for line in collector.step(block_ms=0)] == [3, 1]
        assert collector.step(block_ms=10) == []
        assert (collector.count, collector.failed) == (2, 1)
    assert on_disk(results) == [(3, "ok"), (1, "failed")]
    assert job.client.xlen(JobKeys.of(JOB).results) == 0


def test_a_crash_between_disk_and_redis_doubles_nothing(
    job: Ledger, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(job, 0)
    with Collector(job, JOB, results, 5) as collector, monkeypatch.context() as patch:
        patch.setattr(job.client, "xdel", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            collector.step(block_ms=0)
    assert job.client.xlen(JobKeys.of(JOB).results) == 1, "the record must still be in Redis"
    finish(job, 1)
    with Collector(job, JOB, results, 5) as collector:
        assert [line.index for line in collector.step(block_ms=0)] == [1]
    assert on_disk(results) == [(0, "ok"), (1, "ok")]


def test_a_torn_last_line_is_written_again(job: Ledger, results: Path) -> None:
    finish(job, 0)
    finish(job, 1)
    with Collector(job, JOB, results, 5) as collector:
        collector.step(block_ms=0)
    whole = results.read_bytes()
    results.write_bytes(whole[:-20])
    record = whole.splitlines()[1]
    job.client.xadd(JobKeys.of(JOB).results, {"record": record})
    with Collector(job, JOB, results, 5) as collector:
        collector.step(block_ms=0)
    assert results.read_bytes() == whole


def test_a_retried_failure_is_replaced(job: Ledger, results: Path) -> None:
    for index in (0, 1):
        finish(job, index, ok=index == 0)
    with Collector(job, JOB, results, 5) as collector:
        collector.step(block_ms=0)
    assert job.retry(JOB, [1]) == 1
    finish(job, 1)
    with Collector(job, JOB, results, 5) as collector:
        collector.step(block_ms=0)
        assert (collector.count, collector.failed) == (2, 0)
    assert on_disk(results) == [(0, "ok"), (1, "ok")]


def test_a_killed_collectors_double_is_dropped(job: Ledger, results: Path) -> None:
    """Killed after a retry made a page good, before the old failure was dropped: the next collector does that."""
    finish(job, 0, ok=False)
    with Collector(job, JOB, results, 5) as collector:
        collector.step(block_ms=0)
    good = ImageRecord(job=JOB, index=0, image="0.jpg", page=0, status="ok")
    with results.open("ab") as file:
        file.write(encode(good) + b"\n")
    with Collector(job, JOB, results, 5) as collector:
        assert (collector.count, collector.failed) == (1, 0)
    assert on_disk(results) == [(0, "ok")]


def test_a_damaged_line_is_no_record(job: Ledger, results: Path) -> None:
    results.write_bytes(b'{"index":0,"sta\xff\n')
    finish(job, 0)
    with Collector(job, JOB, results, 5) as collector:
        assert [line.index for line in collector.step(block_ms=0)] == [0]
        assert collector.count == 1


def test_dropping_the_failed(job: Ledger, results: Path) -> None:
    for index in range(4):
        finish(job, index, ok=index % 2 == 0)
    with Collector(job, JOB, results, 5) as collector:
        collector.step(block_ms=0)
    assert drop_failed(results) == [1, 3]
    assert on_disk(results) == [(0, "ok"), (2, "ok")]


def test_two_collectors_would_share_records(job: Ledger, tmp_path: Path) -> None:
    with Collector(job, JOB, tmp_path / "a.jsonl", 5):
        other = Collector(job, JOB, tmp_path / "b.jsonl", 5)
        other._me = b"elsewhere:1"
        with pytest.raises(AlreadyCollecting, match=str(os.getpid())):
            other.__enter__()


def test_a_dead_collectors_lock_is_taken_over(job: Ledger, results: Path) -> None:
    import socket

    job.client.set(f"{JobKeys.of(JOB).job}:collector", f"{socket.gethostname()}:999999999")
    with Collector(job, JOB, results, 5):
        pass
