"""A job is more than its name: steps, messages and collectors of another job of that name do nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from unittest import mock

import pytest

from producer.errors import OtherJobError
from producer.fleet_job import forget_job
from producer.job.collect import Collector
from producer.job.job_epoch import open_job
from producer.job.output_folder import OutputFolder
from producer.job.results_owner import owner_of
from worker.broker import queue
from worker.ledger.ledger import JobReplacedError, Ledger
from worker.messages import ImageRecord, ImageTask, encode
from worker.redis_keys import JobKeys

JOB = "job"


def page(index: int, epoch: str) -> ImageTask:
    return ImageTask(job=JOB, index=index, image=f"{epoch}-{index}.jpg", uri="file:///a.jpg", epoch=epoch)


def begin_again(ledger: Ledger) -> None:
    """A page of the first job runs; then the job is forgotten and enqueued again."""
    ledger.create(JOB, 2, {}, epoch="one")
    ledger.feed([page(0, "one")])
    assert ledger.begin(JOB, 0, redelivered=False, epoch="one").verdict == "run"
    ledger.forget(JOB)
    ledger.create(JOB, 2, {}, epoch="two")
    ledger.feed([page(0, "two"), page(1, "two")])


def test_a_page_that_still_runs_does_not_land_in_the_next_job(ledger: Ledger) -> None:
    """Before: its record was taken as the new job's, silently, exit code 0."""
    begin_again(ledger)
    assert not ledger.renew(JOB, 0, epoch="one")
    assert not ledger.finish(JOB, 0, ok=True, record=b"{}", epoch="one")
    assert not ledger.lose(JOB, 0, "WorkerLost", epoch="one")
    assert ledger.client.xlen(JobKeys.of(JOB).results) == 0
    assert ledger.begin(JOB, 0, redelivered=False, epoch="two").verdict == "run"
    assert ledger.finish(JOB, 0, ok=True, record=b"{}", epoch="two")


def test_a_dead_workers_message_is_not_run_for_the_next_job(ledger: Ledger) -> None:
    begin_again(ledger)
    assert ledger.begin(JOB, 1, redelivered=True, epoch="one").verdict == "stale"
    assert ledger.begin(JOB, 1, redelivered=True).verdict == "stale", "nor one of the version before"


def test_a_job_of_the_version_before_goes_on(ledger: Ledger) -> None:
    ledger.create(JOB, 1, {})
    ledger.feed([page(0, "")])
    assert ledger.begin(JOB, 0, redelivered=False).verdict == "run"
    assert ledger.finish(JOB, 0, ok=True, record=b"{}")


def test_two_producers_with_one_name(ledger: Ledger, tmp_path: Path) -> None:
    """Before: the second fed its images into the first one's job, and said "30 done" with none of its own."""
    mine, other = OutputFolder(tmp_path / "mine"), OutputFolder(tmp_path / "other")
    epoch = open_job(mine, ledger, JOB, 2)
    with pytest.raises(JobReplacedError, match="another --job"):
        open_job(other, ledger, JOB, 2)
    assert open_job(mine, ledger, JOB, 2) == epoch, "its own goes on"
    ledger.forget(JOB)
    assert open_job(other, ledger, JOB, 2) != epoch
    with pytest.raises(JobReplacedError):
        open_job(mine, ledger, JOB, 2)
    with pytest.raises(JobReplacedError):
        ledger.feed([page(0, epoch)])
    assert ledger.in_flight(JOB) == {}


def test_two_producers_at_the_same_moment(ledger: Ledger, tmp_path: Path) -> None:
    """Before: create()'s answer was not looked at, so both fed the one job that there was."""
    ledger.create(JOB, 2, {}, epoch="one")
    with mock.patch.object(ledger, "status", return_value=None), pytest.raises(JobReplacedError):
        open_job(OutputFolder(tmp_path), ledger, JOB, 2)


def test_forgetting_takes_back_what_workers_hold(ledger: Ledger) -> None:
    """Before: a dead worker's message was delivered again, to the next job of that name."""
    for tag, job in (("mine", JOB), ("other", "another")):
        entry = json.dumps([{"headers": {"id": f"{job}:0"}}, "", ""])
        ledger.client.hset(queue.UNACKED, tag, entry)
        ledger.client.zadd(queue.UNACKED_INDEX, {tag: 1.0})
    ledger.create(JOB, 1, {})
    forget_job(ledger, JOB)
    assert ledger.client.hkeys(queue.UNACKED) == [b"other"]
    assert ledger.client.zrange(queue.UNACKED_INDEX, 0, -1) == [b"other"]


def test_a_folder_of_the_version_before(ledger: Ledger, tmp_path: Path) -> None:
    folder, other = OutputFolder(tmp_path / "one"), OutputFolder(tmp_path / "two")
    ledger.create(JOB, 2, {"manifest": str(folder.manifest)})
    assert open_job(folder, ledger, JOB, 2) == ""
    with pytest.raises(JobReplacedError):
        open_job(other, ledger, JOB, 2)


def test_a_collector_at_work_notices_that_its_job_is_another_now(ledger: Ledger, tmp_path: Path) -> None:
    """Before: it went on, and wrote the records of both jobs into one file."""
    ledger.create(JOB, 2, {}, epoch="one")
    status = ledger.status(JOB)
    assert status is not None
    results = tmp_path / "results.jsonl"
    with Collector(ledger, JOB, results, 2, owner=owner_of(status)) as collector:
        ledger.forget(JOB)
        time.sleep(0.002)
        ledger.create(JOB, 2, {}, epoch="two")
        ledger.feed([page(0, "two")])
        ledger.begin(JOB, 0, redelivered=False, epoch="two")
        record = ImageRecord(job=JOB, index=0, image="two-0.jpg", page=0, status="ok")
        ledger.finish(JOB, 0, ok=True, record=encode(record), epoch="two")
        with pytest.raises((JobReplacedError, OtherJobError)):
            collector.step(block_ms=0)
    assert results.read_bytes() == b""
    assert ledger.client.xlen(JobKeys.of(JOB).results) == 1, "it is the next collector's"
