"""A job whose broker lost it goes on from what was collected; another job's file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.errors import OtherJobError
from producer.job.begin_again import adopt, retry_on_broker
from producer.job.collect import Collector
from producer.job.manifest import write_manifest
from producer.job.results_owner import owner_of
from producer.sources.scan import FoundPage
from worker.ledger import Ledger
from worker.messages import ImageRecord, ImageTask, encode, failed_record
from worker.redis_keys import JobKeys

JOB = "job"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Four pages."""
    pages = [FoundPage(f"{index}.jpg", f"file:///{index}.jpg", 0) for index in range(4)]
    write_manifest(iter(pages), tmp_path / "manifest.jsonl")
    return tmp_path / "manifest.jsonl"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """What was collected before: one good page, one failed, one torn line."""
    good = ImageRecord(job=JOB, index=0, image="0.jpg", page=0, status="ok")
    bad = failed_record(ImageTask(job=JOB, index=2, image="2.jpg", uri="file:///2.jpg"), "CorruptImage", "broken")
    path = tmp_path / "out" / "results.jsonl"
    path.parent.mkdir()
    path.write_bytes(encode(good) + b"\n" + encode(bad) + b"\n" + b'{"index": 3, "im')
    return path


def test_what_is_on_disk_is_not_done_again(ledger: Ledger, manifest: Path, results: Path) -> None:
    """Before: a lost broker cost all the work that had been collected."""
    ledger.create(JOB, 4, {}, epoch="new")
    status = ledger.status(JOB)
    assert status is not None
    assert adopt(ledger, results, manifest, owner_of(status)) == 2
    status = ledger.status(JOB)
    assert status is not None and (status.ok, status.failed, status.unfed) == (1, 1, 2)
    with Collector(ledger, JOB, results, 4, owner=owner_of(status)) as collector:
        assert collector.count == 2, "the file is this job's now"


def test_a_record_of_an_archive_that_was_listed_anew(ledger: Ledger, tmp_path: Path, results: Path) -> None:
    pages = [FoundPage(f"{name}/{name}", "file:///x", 0) for name in ("0.jpg", "1.jpg", "2.jpg")]
    write_manifest(iter(pages), tmp_path / "manifest.jsonl")
    bad = failed_record(ImageTask(job=JOB, index=2, image="2.jpg", uri="file:///2.jpg"), "NotFound", "not listed")
    results.write_bytes(encode(bad) + b"\n")
    ledger.create(JOB, 3, {}, epoch="new")
    status = ledger.status(JOB)
    assert status is not None and adopt(ledger, results, tmp_path / "manifest.jsonl", owner_of(status)) == 0


def test_another_jobs_file_is_refused(ledger: Ledger, manifest: Path, results: Path) -> None:
    ledger.create(JOB, 4, {}, epoch="new")
    status = ledger.status(JOB)
    assert status is not None
    strange = ImageRecord(job=JOB, index=1, image="another.jpg", page=0, status="ok")
    results.write_bytes(encode(strange) + b"\n")
    with pytest.raises(OtherJobError, match="another"):
        adopt(ledger, results, manifest, owner_of(status))
    status = ledger.status(JOB)
    assert status is not None and status.done == 0


def test_waiting_records_of_pages_that_did_not_fail_cost_a_retry_nothing(ledger: Ledger) -> None:
    """Before: an entry's id was kept of each, 500 MB of 2.8 million; and what came meanwhile was read as well."""
    ledger.create(JOB, 300, {})
    ledger.adopt(JOB, [299], ok=False)
    for index in (*range(300), 2**63, -1, 10**8):
        record = f'{{"index":{index},"image":"","page":0,"status":"failed"}}'
        ledger.client.xadd(JobKeys.of(JOB).results, {"record": record})
    ledger.client.xadd(JobKeys.of(JOB).results, {"x": "y"})
    assert retry_on_broker(ledger, JOB) == 1
    assert ledger.client.xlen(JobKeys.of(JOB).results) == 303 and ledger.states(JOB, 299, 1) == b"\0"
