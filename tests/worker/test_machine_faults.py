"""A full or broken disk is this machine's fault, never the page's: the page is tried again, on any machine, undegraded.

The disk is "full" by RLIMIT_FSIZE: the kernel then refuses writes (EFBIG), to root too.
"""

from __future__ import annotations

import errno
import resource
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from fsspec.asyn import get_loop

from detector.errors import CorruptImage, NotFound, ReadFailed
from producer.job.manifest import ManifestLine
from producer.job.upload import Uploader
from tests.archives import write_7z
from tests.broken_disk import Break, breaks
from tests.detector.images.test_read_errors import a_report
from tests.pictures import write_images
from worker import tasks
from worker.broker import blobs
from worker.detection import ImageRunner
from worker.ledger import Ledger, reconcile
from worker.messages import ImageRecord, ImageTask, encode
from worker.redis_keys import JobKeys
from worker.settings import Settings
from worker.storage import Storage, files, remote
from worker.storage.spool import MachineFault

__all__ = ["breaks"]

JOB = "job"


@contextmanager
def full_disk(room: int = 1000) -> Iterator[None]:
    """No file of this process may grow beyond ``room`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def archives(tmp_path: Path) -> dict[str, Path]:
    """One picture in archives of each kind."""
    [picture] = write_images(tmp_path / "in", 1)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(picture, "page.jpg")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(picture, "page.jpg")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(picture, "page.jpg")
    write_7z(tmp_path / "a.7z", {"page.jpg": picture.read_bytes()})
    return {name: tmp_path / f"a.{name}" for name in ("zip", "tar", "tar.gz", "7z")}


def member(archive: Path, kind: str) -> str:
    scheme = {"7z": "sevenzip", "tar.gz": "tar"}.get(kind, kind)
    return f"{scheme}+file://{quote(str(archive))}#page.jpg"


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_full_spool_is_no_corrupt_image(archives: dict[str, Path], kind: str, tmp_path: Path) -> None:
    storage = Storage((), tmp_path / "spool")
    with pytest.raises(MachineFault) as caught, full_disk(), storage.open(member(archives[kind], kind)):
        pass
    assert caught.value.errno == errno.EFBIG and str(tmp_path / "spool") in caught.value.filename
    assert list((tmp_path / "spool").iterdir()) == []
    with storage.open(member(archives[kind], kind)) as opened:  # room again
        assert opened.stat().st_size > 1000


def test_a_spool_that_cannot_be_made(archives: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineFault), Storage((), tmp_path / "file" / "x").open(member(archives["zip"], "zip")):
        pass


def test_a_dying_disk_is_told_from_a_torn_archive(
    archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter((errno.EIO, errno.EINVAL))

    def fails(self: object, *arguments: object) -> bytes:
        raise OSError(next(errors), "told by the test")

    monkeypatch.setattr(zipfile.ZipExtFile, "read", fails)
    storage = Storage((), tmp_path / "spool")
    for kind in (MachineFault, CorruptImage):
        with pytest.raises(kind), storage.open(member(archives["zip"], "zip")):
            pass


@pytest.mark.parametrize("page", [0, 1])
def test_a_page_whose_file_cannot_be_read(page: int, settings: Settings, tmp_path: Path, breaks: Break) -> None:
    report = a_report(tmp_path / "report.pdf")
    breaks(60_000, 1, errno.ESTALE)
    task = ImageTask(job=JOB, index=0, image="report.pdf", uri=f"file://{quote(str(report))}", page=page)
    with pytest.raises(MachineFault, match="told by the test") as caught:
        ImageRunner(settings).run(task, attempts=1, losses=0)
    assert caught.value.errno == errno.ESTALE and caught.value.filename == str(report)


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT])
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "7z"])
def test_an_archive_that_cannot_be_read(
    archives: dict[str, Path], kind: str, error: int, tmp_path: Path, breaks: Break
) -> None:
    for begin in (0, 600, archives[kind].stat().st_size - 10_000):
        storage = Storage((), tmp_path / "spool")
        breaks(begin, 1, error)
        with pytest.raises(MachineFault, match="told by the test"), storage.open(member(archives[kind], kind)):
            pass
        with storage.open(member(archives[kind], kind)) as copy:  # nothing of it is kept
            assert copy.stat().st_size > 1000


@pytest.mark.parametrize(
    ("error", "expected"),
    [(errno.EMFILE, ReadFailed), (errno.ESTALE, ReadFailed), (errno.EACCES, NotFound), (errno.ENOENT, NotFound)],
)
@pytest.mark.parametrize("call", ["open", "stat"])
def test_a_file_that_cannot_be_opened(
    call: str, error: int, expected: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [picture] = write_images(tmp_path, 1)

    def refused(*arguments: object, **options: object) -> None:
        raise OSError(error, "told by the test")

    monkeypatch.setattr(*((files, "open_regular") if call == "open" else (Path, "stat")), refused)
    with pytest.raises(NotFound) as caught, Storage((), tmp_path / "spool").open(f"file://{quote(str(picture))}"):
        pass
    monkeypatch.undo()
    assert type(caught.value) is expected and str(picture) in str(caught.value)


def test_a_blob_that_finds_no_room(ledger: Ledger, tmp_path: Path) -> None:
    blobs.put(ledger.client, JOB, {0: b"x" * 5000}, 60)
    with pytest.raises(MachineFault), full_disk():
        blobs.fetch(ledger.client, blobs.blob_uri(JOB, 0), tmp_path / "copy")
    blobs.fetch(ledger.client, blobs.blob_uri(JOB, 0), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"x" * 5000


class Bucket:
    """What fsspec gives for a bucket, failing as it is told."""

    def __init__(self, error: BaseException | None) -> None:
        self.error, self.loop = error, get_loop()

    def open(self, path: str, mode: str, **options: object) -> Bucket:
        return self

    def __enter__(self) -> Bucket:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def read(self, count: int) -> bytes:
        if self.error is not None:
            raise self.error
        return b"x" * min(count, 5000)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), MemoryError),
        (SoftTimeLimitExceeded(), SoftTimeLimitExceeded),
        (OSError(errno.EIO, "s3fs says so of errors it does not know"), NotFound),
        (RuntimeError("anything of aiobotocore"), NotFound),
        (None, MachineFault),  # nothing but the disk
    ],
)
def test_what_a_bucket_is_blamed_for(
    error: BaseException | None, expected: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "s3", lambda: Bucket(error))
    with pytest.raises(expected), full_disk():
        remote.Remote((), s3_open=True).fetch("s3://bucket/a.jpg", tmp_path / "copy")


def test_the_page_is_tried_again_and_not_smaller(
    archives: dict[str, Path], ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = ImageRunner(replace(settings, spool_dir=tmp_path / "spool"))
    monkeypatch.setattr(tasks, "_ledger", lambda: ledger)
    monkeypatch.setattr(tasks, "_runner", lambda: runner)
    monkeypatch.setattr(tasks, "FAULT_PAUSE_S", 0)
    monkeypatch.setattr(reconcile, "GRACE_S", 0)
    monkeypatch.setattr(reconcile, "GAP_S", 0.01)
    pages = [
        ImageTask(job=JOB, index=index, image="page.jpg", uri=member(archives["zip"], "zip")) for index in range(2)
    ]
    ledger.create(JOB, 2, {})
    ledger.feed(pages)

    def attempt(index: int) -> str:
        time.sleep(0.002)
        assert index in reconcile.stranded(ledger, JOB), "the reconciler finds it"
        assert ledger.reclaim(JOB, index) is not None
        return tasks.detect_image(msgspec.to_builtins(pages[index]))

    def no_thread(*arguments: object, **options: object) -> None:
        raise RuntimeError("can't start new thread")

    def no_module(*arguments: object, **options: object) -> None:
        raise ModuleNotFoundError("No module named 'pypdfium2'")

    with monkeypatch.context() as patch:
        patch.setattr(runner, "run", no_thread)
        assert "left to another machine: processes, threads: no more" in attempt(0)
        patch.setattr(runner, "run", no_module)  # before: Internal, page after page, while pip had it away
        assert "left to another machine: ocrfleet: not all there, or being installed (No module" in attempt(0)
    for index, faults in ((0, 0), (1, 3)):
        for _ in range(faults):
            with full_disk():
                told = attempt(index)
            assert "left to another machine" in told and "File too large" in told
            assert ledger.client.xlen(JobKeys.of(JOB).results) == index, "no record yet"
        attempt(index)
    good, dead = (
        msgspec.json.decode(fields[b"record"], type=ImageRecord)
        for _, fields in ledger.client.xrange(JobKeys.of(JOB).results)
    )
    assert good.status == "ok" and good.attempts == 3 and "degraded" not in good.flags
    assert dead.error is not None and dead.error.type == "Internal" and "disk" in dead.error.message
    assert len(encode(dead).splitlines()) == 1


def test_a_producers_full_disk_fails_no_page(archives: dict[str, Path], ledger: Ledger) -> None:
    ledger.create(JOB, 1, {})
    with Uploader(ledger, JOB, limit_side=0, shrink=False) as uploader:
        line = ManifestLine(0, "page.jpg", member(archives["zip"], "zip"), 0)
        with pytest.raises(MachineFault), full_disk():
            uploader.pack(line)
        assert len(uploader.pack(line).data) > 1000
