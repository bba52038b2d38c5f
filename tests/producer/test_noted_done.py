"""What a watched folder notes of its job in Redis, for the day the broker has lost it, and which pages it may trust."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from producer.errors import JobInterruptedError
from producer.fleet_job import feed_job
from producer.growing import new_pages, noted_done
from producer.growing.alone import alone
from producer.growing.missed_elsewhere import FIELD, Missed, make_whole, report_missed
from producer.growing.new_pages import append_pages, look_for_new
from producer.growing.noted_done import NotedDone, begin_again, note_done
from producer.job.job_epoch import open_job
from producer.job.manifest import count_manifest, read_manifest, write_manifest
from producer.job.output_folder import FolderBusyError, JobRequest, OutputFolder
from producer.output.terminal import Progress
from producer.sources.found_page import FoundPage
from producer.watch_folder import _watch
from tests.pictures import write_images
from tests.raw_tiff import Picture, raw_tiff
from worker.app import app_for
from worker.ledger import Ledger
from worker.messages import ImageRecord, encode
from worker.redis_keys import JobKeys
from worker.settings import Settings

JOB = "inbox"
KEYS = JobKeys.of(JOB)


def page(name: object) -> FoundPage:
    return FoundPage(f"{name}.jpg", f"file:///in/{name}.jpg", 0)


@pytest.fixture
def folder(tmp_path: Path, ledger: Ledger) -> OutputFolder:
    """A job of four pages, of which nothing waits: the second failed, the last was never fed."""
    made = OutputFolder(tmp_path / "job")
    write_manifest(map(page, range(4)), made.manifest)
    made.save_request(JobRequest(job=JOB, sources=["/in"]))
    open_job(made, ledger, JOB, 4)
    ledger.adopt(JOB, [0, 2], ok=True)
    ledger.adopt(JOB, [1], ok=False)
    return made


def noted(folder: OutputFolder) -> NotedDone | None:
    file = folder.private / "done"
    return msgspec.json.decode(file.read_bytes(), type=NotedDone) if file.exists() else None


def test_failed_pages_are_failed_when_the_broker_was_lost(folder: OutputFolder, ledger: Ledger) -> None:
    """Before: they were ok, and `retry` found none."""
    note_done(folder, ledger, JOB)
    assert noted(folder) == NotedDone(folder.epoch, 3, [1])
    ledger.client.flushall()
    begin_again(folder, ledger, JOB)
    assert ledger.states(JOB, 0, 9) == b"ofo\0"
    assert (status := ledger.status(JOB)) and (status.ok, status.failed) == (2, 1)


def test_many_failed_pages(folder: OutputFolder, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noted_done, "MOST_FAILED", 2)
    ledger.client.set(KEYS.state, b"fofo")
    note_done(folder, ledger, JOB)
    assert noted(folder) == NotedDone(folder.epoch, 4, [0, 2])
    ledger.client.set(KEYS.state, b"ffof")
    note_done(folder, ledger, JOB)
    assert noted(folder) == NotedDone(folder.epoch, 3, [0, 1])


def test_what_waits_in_redis_is_not_noted(folder: OutputFolder, ledger: Ledger) -> None:
    """Before: it was done for good where the broker was lost, and nobody had its record."""
    ledger.client.xadd(KEYS.results, {"record": b"{}"})
    note_done(folder, ledger, JOB)
    assert noted(folder) is None


def test_pages_that_the_list_has_not_are_not_noted(folder: OutputFolder, ledger: Ledger) -> None:
    """Before: 5,000 bytes behind the states, once, and the next 5,000 files were never read, on a new Redis, too."""
    ledger.client.setrange(KEYS.state, 3, b"o" * 5000)
    note_done(folder, ledger, JOB)
    assert (note := noted(folder)) and note.pages == 4
    (folder.private / "done").write_bytes(msgspec.json.encode(NotedDone(folder.epoch, 20_000_003, [1, 10_000])))
    ledger.client.flushall()
    begin_again(folder, ledger, JOB)
    assert ledger.states(JOB, 0, 9) == b"ofoo"


@pytest.mark.parametrize("note", [b"3", b"x", b'{"epoch":"1","pages":3}', b'{"epoch":"E","pages":3,"failed":[-1]}'])
def test_no_note_of_this_job_is_none(folder: OutputFolder, ledger: Ledger, note: bytes) -> None:
    (folder.private / "done").write_bytes(note.replace(b"E", folder.epoch.encode()))
    ledger.client.flushall()
    begin_again(folder, ledger, JOB)
    assert ledger.states(JOB, 0, 9) == b"\0" * 4


def test_of_another_job_of_that_name_nothing_is_noted(folder: OutputFolder, ledger: Ledger) -> None:
    """Before: the number of his pages was noted, and his job was kept alive."""
    ledger.forget(JOB)
    ledger.create(JOB, 12, {}, epoch="his")
    ledger.adopt(JOB, range(12), ok=True)
    note_done(folder, ledger, JOB)
    make_whole(folder, ledger, JOB)
    assert noted(folder) is None and ledger.client.hget(KEYS.job, "fed_ms") is None
    assert ledger.states(JOB, 0, 99) == b"o" * 12


def test_new_pages_are_fed_whatever_stood_behind_the_states(
    folder: OutputFolder, ledger: Ledger, settings: Settings
) -> None:
    """Before: they counted as done, and nobody ever read them."""
    ledger.adopt(JOB, [3], ok=True)
    ledger.client.setrange(KEYS.state, 4, b"o" * 20)
    make_whole(folder, ledger, JOB)
    append_pages(folder.manifest, map(page, "xy"))
    feed_job(folder, folder.request(), app_for(settings), ledger, watching=False, quiet=True)
    assert set(ledger.in_flight(JOB)) == {4, 5}
    assert ledger.client.ttl(KEYS.state) > 0 and (status := ledger.status(JOB)) and status.done == 4


def test_a_watch_waits_while_a_retry_holds_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: it ended with "another ocr-producer works in", where a file came at that moment."""
    inbox, held = tmp_path / "in", ExitStack()
    inbox.mkdir()
    (inbox / "a.jpg").touch()
    folder, request = OutputFolder(tmp_path / "out"), JobRequest(job=JOB, sources=[str(inbox)])
    held.enter_context(OutputFolder(tmp_path / "out").locked())
    sleeps = list[float]()

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 3:
            held.close()

    def work() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("producer.watch_folder.time.sleep", sleep)
    with pytest.raises(JobInterruptedError):
        _watch(inbox, folder, request, work, lambda: None, poll_s=1, settle_s=0)
    assert len(sleeps) >= 3 and count_manifest(folder.manifest) == 1
    assert capsys.readouterr().err.count("it is tried again") == 1


def test_two_do_not_watch_for_one_job(tmp_path: Path) -> None:
    """Before: each took a file, which had two pages then."""
    folder = OutputFolder(tmp_path / "job")
    with alone(folder), pytest.raises(FolderBusyError, match="another watch-folder"), alone(folder):
        pass
    assert not folder.root.exists(), "nothing is left where nothing was begun"
    folder.save_request(JobRequest(job=JOB, sources=["/in"]))
    with alone(OutputFolder(tmp_path / "job")):
        pass
    inbox = tmp_path / "in"
    write_images(inbox, 2)
    request = JobRequest(job=JOB, sources=[str(inbox)])
    with alone(folder), pytest.raises(FolderBusyError, match="leave new files to it"):
        look_for_new(folder, request, Progress(quiet=True), update=True)
    assert look_for_new(folder, request, Progress(quiet=True), update=True) == 2


def test_a_refused_update_leaves_what_the_job_was_asked_for(tmp_path: Path, settings: Settings, ledger: Ledger) -> None:
    """Before: `retry` beside the watch did failed pages at the size of the command that was refused."""
    write_images(inbox := tmp_path / "in", 1)
    folder, request = OutputFolder(tmp_path / "job"), JobRequest(job=JOB, sources=[str(inbox)])
    app = app_for(settings)
    feed_job(folder, request, app, ledger, watching=False, quiet=True)
    smaller = msgspec.structs.replace(request, limit_side=320)
    with alone(folder), pytest.raises(FolderBusyError):
        feed_job(folder, smaller, app, ledger, watching=False, quiet=True, update=True)
    assert folder.request().limit_side == 0
    feed_job(folder, smaller, app, ledger, watching=False, quiet=True, update=True)
    assert folder.request().limit_side == 320


def test_what_a_collector_elsewhere_tells_while_new_files_are_looked_for(
    tmp_path: Path, settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: the new files had the numbers of its missed pages, and their failed records, and were not read."""
    (inbox := tmp_path / "in").mkdir()
    (inbox / "z.tif").write_bytes(raw_tiff([Picture(8, 8)]))
    folder, request = OutputFolder(tmp_path / "job"), JobRequest(job=JOB, sources=[str(inbox)])
    app, real = app_for(settings), new_pages.new_pages
    feed_job(folder, request, app, ledger, watching=False, quiet=True)
    (inbox / "z.tif").write_bytes(raw_tiff([Picture(8, 8)] * 3))
    write_images(inbox, 2)
    assert ledger.finish(JOB, 0, ok=True, record=line(0, 3), epoch=folder.epoch)
    results = tmp_path / "results.jsonl"

    def slow(*arguments: Any) -> Iterator[FoundPage]:
        yield from real(*arguments)
        assert (status := ledger.status(JOB)) is not None
        results.write_bytes(line(0, 3) + b"\n")
        assert len(report_missed(ledger, status, results)) == 1

    monkeypatch.setattr(new_pages, "new_pages", slow)
    feed_job(folder, request, app, ledger, watching=False, quiet=True, update=True)
    listed = [(found.image, found.page) for found in read_manifest(folder.manifest)]
    assert listed[:3] == [("z.tif", 0), ("z.tif", 1), ("z.tif", 2)] and len(listed) == 5
    assert ledger.states(JOB, 0, 9) == b"offqq"
    assert (status := ledger.status(JOB)) is not None and status.total == 5
    results.write_bytes(b"\n".join(line(0, 3, index) for index in range(5)))
    assert not report_missed(ledger, status._replace(total=3), results), "its numbers are others' by now"


def test_a_collector_elsewhere_that_ended_while_it_told(tmp_path: Path, settings: Settings, ledger: Ledger) -> None:
    """Before: the next told the same pages once more behind them, and no page of the job was ever taken over."""
    (inbox := tmp_path / "in").mkdir()
    (inbox / "z.tif").write_bytes(raw_tiff([Picture(8, 8)]))
    folder, results = OutputFolder(tmp_path / "job"), tmp_path / "results.jsonl"
    request = JobRequest(job=JOB, sources=[str(inbox)])
    feed_job(folder, request, app_for(settings), ledger, watching=False, quiet=True)
    (inbox / "z.tif").write_bytes(raw_tiff([Picture(8, 8)] * 3))
    assert ledger.finish(JOB, 0, ok=True, record=line(0, 3), epoch=folder.epoch)
    results.write_bytes(line(0, 3) + b"\n")
    ledger.note(JOB, {FIELD: msgspec.json.encode([Missed(0, 1, 3, 1)]).decode()})  # and was killed
    assert (status := ledger.status(JOB)) is not None and status.total == 1
    assert len(report_missed(ledger, status, results)) == 1
    assert ledger.states(JOB, 0, 9) == b"off"
    make_whole(folder, ledger, JOB)
    assert [found.page for found in read_manifest(folder.manifest)] == [0, 1, 2]


def line(page: int, pages: int, index: int = 0) -> bytes:
    record = ImageRecord(job=JOB, index=index, image="z.tif" if not index else "x", page=page, pages=pages, status="ok")
    return encode(record)
