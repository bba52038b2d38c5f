"""Pages that a scan missed are added to manifest and ledger once, whatever dies in between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from redis import ResponseError

from producer.fleet_job import collect_job
from producer.growing.new_pages import append_pages
from producer.job.feed import Feeder
from producer.job.growth import AddedUnfed, Growth
from producer.job.job_epoch import open_job
from producer.job.manifest import count_manifest, read_manifest, write_manifest
from producer.job.output_folder import JobRequest, state_folder
from producer.job.results_file import Line, truncate_torn_line
from producer.sources.scan import FoundPage, Problem
from tests.producer.records import tiff
from worker.app import app_for
from worker.ledger.ledger import Ledger
from worker.messages import ImageRecord, ImageTask, Seconds, encode
from worker.redis_keys import JobKeys
from worker.settings import Settings

JOB = "grown"
FOUND = [FoundPage("a.pdf", "file:///a.pdf", 0), FoundPage("b.tif", "file:///b.tif", 0)]
FOUND += [FoundPage("b.tif", "file:///b.tif", 1), FoundPage("c.png", "file:///c.png", 0)]


def record(index: int, pages: int, page: int = 0) -> Line:
    return Line(index=index, image="x", page=page, status="ok", seconds=Seconds(), pages=pages)


def begin(path: Path, ledger: Ledger, found: Sequence[FoundPage] = FOUND) -> Growth:
    total = write_manifest(iter(found), path)
    ledger.create(JOB, total, {})
    return Growth(path, ledger, JOB, total)


def test_missed_pages_are_added_once(tmp_path: Path, ledger: Ledger) -> None:
    path = tmp_path / "manifest.jsonl"
    growth = begin(path, ledger)
    for line in (record(0, 3), record(1, 2), record(3, 0)):
        growth.note(line)
    assert [(line.index, line.image, line.page, line.of) for line in growth.write()] == [
        (4, "a.pdf", 1, 0),
        (5, "a.pdf", 2, 0),
    ]
    status = ledger.status(JOB)
    assert status and status.total == growth.total == count_manifest(path) == 6
    growth.note(record(0, 3))
    assert not growth.write()
    growth.close()
    # A process that goes on reads the same records again.
    again = Growth(path, ledger, JOB, count_manifest(path))
    for line in (record(0, 3), record(1, 2), record(4, 3, page=1)):
        again.note(line)
    assert not again.write() and again.total == 6
    again.close()
    assert [line.index for line in read_manifest(path)] == list(range(6))


def test_half_of_what_was_added_is_added_again(tmp_path: Path, ledger: Ledger) -> None:
    path = tmp_path / "manifest.jsonl"
    growth = begin(path, ledger)
    growth.note(record(0, 4))
    growth.write()
    growth.close()
    # Killed while it wrote: one line is whole, the next torn.
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]) + lines[5][:20])
    truncate_torn_line(path)
    again = Growth(path, ledger, JOB, count_manifest(path))
    again.note(record(0, 4))
    assert [(line.index, line.page) for line in again.write()] == [(5, 2), (6, 3)]
    again.close()
    status = ledger.status(JOB)
    assert status and status.total == 7


def test_fewer_pages_than_listed_change_nothing(tmp_path: Path, ledger: Ledger) -> None:
    growth = begin(tmp_path / "manifest.jsonl", ledger)
    growth.note(record(1, 1))
    assert not growth.write() and growth.total == 4
    growth.close()


def test_a_job_that_grows_is_fed_to_its_end(tmp_path: Path, ledger: Ledger, settings: Settings) -> None:
    path = tmp_path / "manifest.jsonl"
    growth = begin(path, ledger)
    feeder = Feeder(app_for(settings), ledger, JOB, read_manifest(path))
    while not feeder.exhausted:
        feeder.step()
    assert feeder.sent == 4
    for index in range(4):
        ledger.begin(JOB, index, redelivered=False)
        ledger.finish(JOB, index, ok=True, record=b"{}")
    status = ledger.status(JOB)
    assert status and status.finished
    growth.note(record(0, 3))
    feeder.go_on(growth.write())
    status = ledger.status(JOB)
    assert status and not status.finished and status.finished_s is None
    while not feeder.exhausted:
        feeder.step()
    assert feeder.sent == 6 and sorted(ledger.in_flight(JOB)) == [4, 5]
    growth.close()


def test_a_known_problem_is_a_failed_record_without_a_worker(
    tmp_path: Path, ledger: Ledger, settings: Settings
) -> None:
    path = tmp_path / "manifest.jsonl"
    problem = Problem("CorruptImage", "a.tif: pages 2-? could not be counted")
    found = [FoundPage("a.tif", "file:///a.tif", 0), FoundPage("a.tif", "file:///a.tif", 1, problem)]
    begin(path, ledger, found).close()
    feeder = Feeder(app_for(settings), ledger, JOB, read_manifest(path))
    while not feeder.exhausted:
        feeder.step()
    status = ledger.status(JOB)
    assert status and (status.failed, status.in_flight) == (1, 1)
    (entry,) = ledger.client.xrange(f"ocrfleet:job:{JOB}:results")
    written = msgspec.json.decode(entry[1][b"record"])
    assert written["error"] == {"type": "CorruptImage", "message": problem.message} and written["page"] == 1
    # A retry writes it again: nothing has changed.
    assert ledger.retry(JOB, [1]) == 1
    again = Feeder(app_for(settings), ledger, JOB, read_manifest(path))
    while not again.exhausted:
        again.step()
    status = ledger.status(JOB)
    assert status and status.failed == 1


def test_what_another_process_of_the_machine_added_counts(tmp_path: Path, ledger: Ledger) -> None:
    """A watched folder adds to the manifest, then to the ledger, while the job is collected beside it."""
    path = tmp_path / "manifest.jsonl"
    growth = begin(path, ledger)
    other = Growth(path, ledger, JOB, growth.total)
    other.note(record(0, 3))
    assert len(other.write()) == 2
    assert growth.put_right(6) == growth.total == 6
    ledger.client.hset(JobKeys.of(JOB).job, "total", 7)
    status = ledger.status(JOB)
    assert status is not None and growth.put_right(status.total) == 6
    assert ledger.client.hget(JobKeys.of(JOB).job, "total") == b"6"
    other.close()


def test_pages_join_behind_those_that_a_watched_folder_added(tmp_path: Path, ledger: Ledger) -> None:
    """Before: they took the numbers of those, which ended the job for good ("holds index 4, not 5; scan again")."""
    path = tmp_path / "manifest.jsonl"
    growth = begin(path, ledger)
    growth.note(record(1, 2))
    assert append_pages(path, [FoundPage("d.pdf", "file:///d.pdf", 0)]) == 1
    growth.note(record(0, 2))
    assert [(line.index, line.of) for line in growth.write()] == [(5, 0)]
    growth.note(record(4, 3))
    assert [(line.index, line.of) for line in growth.write()] == [(6, 4), (7, 4)], "and those have missed pages, too"
    growth.note(record(4, 3))
    growth.note(record(10**9, 3))
    assert not growth.write()
    growth.close()
    assert [(line.index, line.image) for line in read_manifest(path)][4:] == [
        (4, "d.pdf"), (5, "a.pdf"), (6, "d.pdf"), (7, "d.pdf"),
    ]  # fmt: skip
    status = ledger.status(JOB)
    assert status and status.total == growth.total == 8


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True], ids=["room", "window full"])
def test_what_a_collector_added_is_fed_by_it_or_by_the_next(
    full: bool, tmp_path: Path, ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: by nobody, where a first step had not come before, and `collect --follow` waited for ever."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder, app, results = state_folder(JOB), app_for(settings), tmp_path / "results.jsonl"
    (tmp_path / "a.tif").write_bytes(tiff(3))
    found = [FoundPage("a.tif", (tmp_path / "a.tif").as_uri(), 0), FoundPage("c.png", "file:///c.png", 0)]
    write_manifest(iter(found), folder.manifest)
    folder.save_request(JobRequest(job=JOB, sources=[str(tmp_path)]))
    epoch = open_job(folder, ledger, JOB, 2)
    ledger.feed([ImageTask(job=JOB, index=0, image="a.tif", uri=found[0].uri, epoch=epoch)])
    ledger.begin(JOB, 0, redelivered=False, epoch=epoch)
    done = ImageRecord(job=JOB, index=0, image="a.tif", page=0, status="ok", pages=3)
    ledger.finish(JOB, 0, ok=True, record=encode(done), epoch=epoch)
    with monkeypatch.context() as patch:
        patch.setattr(Feeder, "_room", lambda self: 0) if full else None
        assert collect_job(app, ledger, JOB, results, follow=False, quiet=True).total == 4
    assert sorted(ledger.in_flight(JOB)) == ([] if full else [2, 3])
    collect_job(app, ledger, JOB, results, follow=False, quiet=True)
    assert sorted(ledger.in_flight(JOB)) == [2, 3], "page 1 is the producer's"


def test_added_lines_are_asked_for_once_more_after_an_error(tmp_path: Path, ledger: Ledger) -> None:
    """States of another type ended `collect --follow` before its loop, which puts them right."""
    growth = begin(tmp_path / "manifest.jsonl", ledger)
    growth.note(record(0, 3))
    growth.write()
    key = JobKeys.of(JOB).state
    ledger.client.delete(key)
    ledger.client.rpush(key, "x")
    lines = AddedUnfed(growth, ledger, JOB)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        next(lines)
    ledger.client.delete(key)
    assert [line.index for line in lines] == [4, 5]
    growth.close()


def test_a_collector_feeds_what_is_added_while_it_reads(settings: Settings, ledger: Ledger, tmp_path: Path) -> None:
    """Its reader has the list open that a retry may have replaced since."""
    begin(tmp_path / "manifest.jsonl", ledger).close()
    lines = list(read_manifest(tmp_path / "manifest.jsonl"))
    feeder = Feeder(app_for(settings), ledger, JOB, lines[:1])
    feeder.go_on(lines[1:])
    while not feeder.exhausted:
        feeder.step()
    assert feeder.sent == 4
