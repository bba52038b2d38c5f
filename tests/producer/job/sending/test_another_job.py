"""A producer that slept while its job's name became another's: it touches none of the bytes of that one's pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.job.manifest import ManifestLine
from producer.job.upload import Parcel, Uploader
from producer.sources.scan import file_uri
from worker.broker import blobs
from worker.ledger.ledger import JobReplacedError, Ledger
from worker.messages import ImageTask
from worker.redis_keys import JobKeys

JOB = "job"


def parcels(*pages: bytes) -> list[Parcel]:
    return [
        Parcel(ManifestLine(index, "a.jpg", file_uri(Path("/a.jpg")), 0), data, 0, None)
        for index, data in enumerate(pages)
    ]


def bytes_of(ledger: Ledger, task: ImageTask, target: Path) -> bytes:
    blobs.fetch(ledger.client, task.uri, target)
    return target.read_bytes()


def sleeper_and_other(ledger: Ledger) -> tuple[Uploader, Uploader, list[ImageTask]]:
    """The first has prepared its pages; its job is forgotten, and another of the name is enqueued and fed."""
    ledger.create(JOB, 2, {}, epoch="one")
    first = Uploader(ledger, JOB, limit_side=0, shrink=False, epoch="one")
    first.send(parcels(b"of the first"))
    ledger.forget(JOB)
    assert list(ledger.client.scan_iter(match="ocrfleet:blob:*")) == []
    ledger.create(JOB, 2, {}, epoch="two")
    second = Uploader(ledger, JOB, limit_side=0, shrink=False, epoch="two")
    return first, second, second.send(parcels(b"second 0", b"second 1"))


def test_who_slept_writes_over_no_page_of_the_other_job(ledger: Ledger, tmp_path: Path) -> None:
    """Before: a record with the boxes of the first one's picture, "ok", under the name of the second one's."""
    first, second, tasks = sleeper_and_other(ledger)
    with first, second:
        with pytest.raises(JobReplacedError):
            first.send(parcels(b"of the first 0", b"of the first 1"))
        assert [bytes_of(ledger, task, tmp_path / "copy") for task in tasks] == [b"second 0", b"second 1"]
        assert len(list(ledger.client.scan_iter(match="ocrfleet:blob:*"))) == 2, "and leaves none of its own"
        for task in tasks:
            ledger.finish(JOB, task.index, ok=True, record=b"{}", epoch="two")
        assert list(ledger.client.scan_iter(match="ocrfleet:blob:*")) == []


def test_who_slept_removes_no_bytes_of_the_other_job(ledger: Ledger, tmp_path: Path) -> None:
    """Before: what it took for strays were pages that the other had sent, and not queued yet."""
    first, second, tasks = sleeper_and_other(ledger)
    with first, second:
        ledger.client.setrange(JobKeys.of(JOB).state, 0, b"\0\0")
        first.waiting_bytes(most=0)
        assert [bytes_of(ledger, task, tmp_path / "copy") for task in tasks] == [b"second 0", b"second 1"]


def test_bytes_sent_by_the_version_before_are_found_and_removed(ledger: Ledger, tmp_path: Path) -> None:
    ledger.create(JOB, 1, {}, epoch="one")
    blobs.put(ledger.client, JOB, {0: b"x"}, 60)
    task = ImageTask(job=JOB, index=0, image="a.jpg", uri=blobs.blob_uri(JOB, 0), page=0, epoch="one")
    ledger.feed([task])
    assert bytes_of(ledger, task, tmp_path / "copy") == b"x"
    ledger.finish(JOB, 0, ok=True, record=b"{}", epoch="one")
    assert list(ledger.client.scan_iter(match="ocrfleet:blob:*")) == []
