"""A folder that is worked on again and again: what one run read of its results the next one does not read again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from producer.job.collect import Collector
from producer.job.manifest import write_manifest
from producer.job.output_folder import JobRequest, OutputFolder
from producer.local import job as local
from producer.local.known_results import KnownResults
from producer.output.totals import SummedUp, summarise
from producer.sources.found_page import FoundPage
from tests.producer.records import failed, ok, write_results
from worker.ledger.ledger import Ledger
from worker.messages import ImageTask, encode


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The results files that a collector read from their beginning."""
    read, files = Collector._read_what_is_there, list[Path]()
    monkeypatch.setattr(Collector, "_read_what_is_there", lambda one: files.append(one.results) or read(one))
    return files


@pytest.mark.slow
def test_a_run_that_follows_reads_nothing_again(looks: list[Path], tmp_path: Path) -> None:
    """Before: all records, twice, for each bundle of a watched folder: 8 s behind a million pages."""
    folder, known = OutputFolder(tmp_path / "out"), KnownResults()
    results = write_results(folder.root, [ok(0), failed(1), ok(2)])
    write_manifest((FoundPage("a.jpg", "file:///a.jpg", 0) for _ in range(3)), folder.manifest)
    request = JobRequest(job="j", sources=["in"], report=False)
    told = []
    for read, stays in ((1, True), (1, False), (2, True)):
        ending = local.run_local_job(folder, request, quiet=True, known=known)
        assert (ending.ok, ending.failed, ending.fresh) == (2, 1, 0) and len(looks) == read
        assert known.totals.place == results.stat().st_size and list(known.marks) == [1, 2, 1]
        told.append({**json.loads(folder.job_json.read_text()), "finished_at": ""})
        if not stays:  # somebody wrote it anew
            shutil.copy(results, tmp_path / "copy")
            (tmp_path / "copy").rename(results)
    assert told[0] == told[1] == told[2]


def test_a_collector_goes_on_from_what_is_known(looks: list[Path], ledger: Ledger, tmp_path: Path) -> None:
    results = write_results(tmp_path, [ok(0), failed(1)])
    tasks = [ImageTask(job="j", index=index, image="a.jpg", uri="file:///a.jpg") for index in range(4)]
    ledger.create("j", 3, {})
    with Collector(ledger, "j", results, 3) as first:
        pass
    ledger.grow("j", 4)
    ledger.feed(tasks)
    for index in (0, 1, 3):  # one that is there, one that a retry made good, a new one
        ledger.begin("j", index, redelivered=False)
        assert ledger.finish("j", index, ok=True, record=encode(ok(index)))
    with Collector(ledger, "j", results, 4, known=first.marks) as second:
        assert (second.count, second.failed) == (2, 1)
        assert [line.index for line in second.step(block_ms=0)] == [1, 3]
    assert len(looks) == 1 and list(second.marks) == [1, 1, 0, 1]
    assert [json.loads(line)["index"] for line in results.read_bytes().splitlines()] == [0, 1, 3]


def test_totals_go_on_where_the_file_has_grown(tmp_path: Path) -> None:
    before, records = SummedUp(), [ok(0), failed(1), ok(2, boxes=[])]
    results = write_results(tmp_path, records[:1])
    for count in (1, 1, 2, 3):
        with results.open("ab") as stream:
            stream.writelines(encode(record) + b"\n" for record in records[summarise(results, before).images : count])
        assert summarise(results, before) == summarise(results) and before.totals.images == count
    write_results(tmp_path / "new", [failed(0)])
    (tmp_path / "new" / "results.jsonl").rename(results)
    assert (summarise(results, before).ok, before.totals.failed) == (0, 1)


def test_what_is_known_is_forgotten_where_anything_may_differ(tmp_path: Path) -> None:
    results, known = write_results(tmp_path, [ok(0)]), KnownResults()
    known.check(tmp_path / "none")
    for change in ("", "ended badly", "one more", "gone"):
        known.marks = bytearray(b"\1")
        known.keep(results)
        if change == "ended badly":
            known.check(results)
        if change == "one more":
            results.write_bytes(2 * results.read_bytes())
        if change == "gone":
            results.unlink()
        known.check(results)
        assert bool(known.marks) == (not change), change
