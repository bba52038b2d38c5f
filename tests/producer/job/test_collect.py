"""Collecting is exactly once: crashes, repeats, retries, and two collectors at once."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from producer.job import loop
from producer.job.collect import AlreadyCollectingError, Collector
from producer.job.results_file import drop_failed
from producer.job.results_owner import OtherJobError, owner_of
from producer.output.terminal import Progress
from tests.processes import command
from worker.app import app_for
from worker.broker.connection import is_full
from worker.ledger import reconcile
from worker.ledger.ledger import Ledger
from worker.messages import ImageRecord, ImageTask, encode, failed_record
from worker.redis_keys import JobKeys
from worker.settings import Settings

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
        patch.setattr(collector, "_remove", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            collector.step(block_ms=0)
    assert job.client.xlen(JobKeys.of(JOB).results) == 1, "the record must still be in Redis"
    finish(job, 1)
    with Collector(job, JOB, results, 5) as collector:
        assert [line.index for line in collector.step(block_ms=0)] == [1]
    assert on_disk(results) == [(0, "ok"), (1, "ok")]


def test_a_disk_that_takes_half_a_record(job: Ledger, results: Path) -> None:
    for index in range(3):
        finish(job, index)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError, match=r"results\.jsonl"), Collector(job, JOB, results, 5) as collector:
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
            collector.step(block_ms=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert results.stat().st_size == 500, "in the middle of a line"
    assert job.client.xlen(JobKeys.of(JOB).results) == 3
    with Collector(job, JOB, results, 5) as collector:  # its lock is free again
        collector.step(block_ms=0)
    assert on_disk(results) == [(index, "ok") for index in range(3)]


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
    assert list(drop_failed(results)) == [1, 3]
    assert on_disk(results) == [(0, "ok"), (2, "ok")]


def test_two_collectors_would_share_records(job: Ledger, tmp_path: Path) -> None:
    with Collector(job, JOB, tmp_path / "a.jsonl", 5):
        other = Collector(job, JOB, tmp_path / "b.jsonl", 5)
        other._lock.me = b"elsewhere:1"
        with pytest.raises(AlreadyCollectingError, match=str(os.getpid())):
            other.__enter__()


def test_a_dead_collectors_lock_is_taken_over(job: Ledger, results: Path) -> None:
    import socket

    job.client.set(f"{JobKeys.of(JOB).job}:collector", f"{socket.gethostname()}:999999999")
    with Collector(job, JOB, results, 5):
        pass


@pytest.fixture
def twin(ledger: Ledger) -> Ledger:
    """Two jobs of three pages each, all done, on one broker."""
    for job in ("a", "b"):
        ledger.create(job, 3, {})
        for index in range(3):
            one = ImageTask(job=job, index=index, image=f"{job}{index}.jpg", uri="file:///x.jpg")
            ledger.feed([one])
            ledger.begin(job, index, redelivered=False)
            record = ImageRecord(job=job, index=index, image=one.image, page=0, status="ok")
            assert ledger.finish(job, index, ok=True, record=encode(record))
    return ledger


def test_another_jobs_file_is_refused_before_anything_is_read(
    twin: Ledger, environment: dict[str, str], tmp_path: Path
) -> None:
    assert command(environment, "ocr-producer", "collect", "a", "-o", tmp_path / "out", "-q").returncode == 0
    before = (tmp_path / "out" / "results.jsonl").read_bytes()
    for _ in range(2):
        told = command(environment, "ocr-producer", "collect", "b", "-o", tmp_path / "out", "-q")
        assert told.returncode == 2 and told.stderr.count("\n") == 1
        assert "records of job a" in told.stderr and "another -o" in told.stderr
        (tmp_path / "out" / ".ocrfleet" / "origin.json").unlink(missing_ok=True)  # the records alone say so too
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == before
    assert twin.client.xlen(JobKeys.of("b").results) == 3
    assert command(environment, "ocr-producer", "collect", "b", "-o", tmp_path / "b", "-q").returncode == 0
    assert [index for index, _ in on_disk(tmp_path / "b" / "results.jsonl")] == [0, 1, 2]


def test_two_jobs_at_once_do_not_share_an_empty_file(twin: Ledger, results: Path) -> None:
    first, second = (owner_of(status) for job in "ab" if (status := twin.status(job)))
    with Collector(twin, "a", results, 3, owner=first):
        with pytest.raises(OtherJobError, match="job a"):
            Collector(twin, "b", results, 3, owner=second).__enter__()
        assert not twin.client.exists(f"{JobKeys.of('b').job}:collector"), "the refused one lets go of its job"


def test_a_later_job_of_the_same_name_is_another_job(job: Ledger, results: Path) -> None:
    def collect() -> list[int]:
        status = job.status(JOB)
        assert status is not None
        with Collector(job, JOB, results, 5, owner=owner_of(status)) as collector:
            return [line.index for line in collector.step(block_ms=0)]

    finish(job, 0)
    assert collect() == [0]
    finish(job, 1)
    assert collect() == [1], "the same job goes on"
    job.forget(JOB)
    time.sleep(0.002)
    job.create(JOB, 5, {})
    finish(job, 0)
    with pytest.raises(OtherJobError, match="an earlier job named job"):
        collect()
    assert job.client.xlen(JobKeys.of(JOB).results) == 1
    results.rename(results.with_name("old.jsonl"))
    assert collect() == [0]


def test_beginning_anew_leaves_no_old_records(environment: dict[str, str], tmp_path: Path, client: redis.Redis) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "page.jpg").write_bytes(b"\xff\xd8\xff")
    enqueue = ("ocr-producer", "enqueue", tmp_path / "in", "--job", "anew", "-q")
    assert command(environment, *enqueue).returncode == 0
    stale = tmp_path / "state" / "ocrfleet" / "anew" / "results.jsonl"
    stale.write_text('{"index":0}\n')
    assert command(environment, *enqueue).returncode == 0
    assert stale.exists(), "the job is still there: so are its records"
    client.flushall()  # it expired
    assert command(environment, *enqueue).returncode == 0
    assert not stale.exists()


@pytest.fixture
def full(job: Ledger, set_full: Callable[[bool], None]) -> Ledger:
    """A broker with two finished pages and no memory left."""
    finish(job, 0)
    finish(job, 1)
    set_full(True)
    return job


def test_a_full_broker_can_be_collected_from(full: Ledger, environment: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        full.client.set("anything", 1)
    told = command(environment, "ocr-producer", "collect", JOB, "-o", tmp_path / "out", "-q")
    assert told.returncode == 1 and "2 of 5" in told.stderr, "all there was; the job is not complete"
    assert on_disk(tmp_path / "out" / "results.jsonl") == [(0, "ok"), (1, "ok")]
    assert full.client.xlen(JobKeys.of(JOB).results) == 0


def test_following_on_a_full_broker(
    full: Ledger, settings: Settings, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stranded page cannot be sent again; what is there is collected, and then there is room."""
    monkeypatch.setattr(loop, "RECONCILE_EVERY_S", 0)
    monkeypatch.setattr(reconcile, "GRACE_S", 0)
    monkeypatch.setattr(reconcile, "GAP_S", 0)
    full.client.config_set("maxmemory", "0")
    full.feed([task(index) for index in (2, 3, 4)])
    full.client.config_set("maxmemory", "1mb")
    refused: list[Exception] = []

    def then_room(*arguments: object) -> int:
        try:
            return reconcile.reconcile(*arguments)  # type: ignore[arg-type]
        except Exception as error:
            refused.append(error)
            full.client.config_set("maxmemory", "0")
            for index in (2, 3, 4):
                finish(full, index)
            raise

    monkeypatch.setattr(loop, "reconcile", then_room)
    with Collector(full, JOB, results, 5) as collector:
        loop.JobLoop(app_for(settings), full, JOB, Progress(quiet=True), collector=collector).run()
    assert len(refused) == 1 and is_full(refused[0])
    assert sorted(on_disk(results)) == [(index, "ok") for index in range(5)]


def test_a_full_broker_keeps_two_collectors_apart_where_it_can(full: Ledger, results: Path) -> None:
    full.client.config_set("maxmemory", "0")
    full.client.set(f"{JobKeys.of(JOB).job}:collector", "elsewhere:1")
    full.client.config_set("maxmemory", "1mb")
    with pytest.raises(AlreadyCollectingError, match="elsewhere:1"):
        Collector(full, JOB, results, 5).__enter__()


def test_a_full_broker_can_be_emptied_and_says_what_it_cannot(full: Ledger, environment: dict[str, str]) -> None:
    told = command(environment, "ocr-producer", "cancel", JOB)
    assert told.returncode == 3 and told.stderr.count("\n") == 1
    assert "memory is full" in told.stderr and "ocr-producer forget" in told.stderr
    assert command(environment, "ocr-worker", "cleanup").returncode == 0
    assert command(environment, "ocr-producer", "forget", JOB, "--yes").returncode == 0
    assert full.client.keys("ocrfleet:job:*") == []
