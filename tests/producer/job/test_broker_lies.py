"""What stands in Redis may be anybody's: no number of it makes a producer large, or fills a disk."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
import redis
from PIL import Image

from producer.bounds import MOST_PAGES_OF_A_FILE
from producer.errors import NO_MORE
from producer.growing.missed_elsewhere import FIELD, MOST_MISSED, Missed, find_missed, report_missed, take_over
from producer.job.collect import Collector
from producer.job.collecting import put_aside
from producer.job.growth import Growth
from producer.job.manifest import count_manifest, read_manifest, write_manifest
from producer.job.results_file import Line
from producer.output.collected_manifest import bring_manifest
from producer.sources.scan import FoundPage, Problem, file_uri
from worker.ledger.ledger import Ledger
from worker.messages import Seconds
from worker.redis_keys import JobKeys

JOB = "lied-to"
A_PDF = FoundPage("a.pdf", "zip+file:///a.zip#a.pdf", 0)


def record(index: int, pages: int, image: str = "x", page: int = 0) -> Line:
    return Line(index=index, image=image, page=page, status="ok", seconds=Seconds(), pages=pages)


def begin(folder: Path, ledger: Ledger, *found: FoundPage) -> Growth:
    total = write_manifest(found, folder / "manifest.jsonl")
    ledger.create(JOB, total, {})
    return Growth(folder / "manifest.jsonl", ledger, JOB, total)


def set_total(ledger: Ledger, total: int) -> None:
    ledger.client.hset(JobKeys.of(JOB).job, "total", total)


def test_a_total_beyond_the_manifest_is_not_believed(tmp_path: Path, ledger: Ledger) -> None:
    """Before: ``HSET total 1500000000`` took the page's process to 1.58 GB."""
    growth = begin(tmp_path, ledger, A_PDF)
    with Collector(ledger, JOB, tmp_path / "results.jsonl", 1, growth=growth) as collector:
        set_total(ledger, 1_500_000_000)
        collector.step(block_ms=0)
        assert collector.total == 1
        growth.note(record(0, 3))
        assert len(growth.write()) == 2
        collector.step(block_ms=0)
        assert collector.total == 3
    growth.close()
    set_total(ledger, 1_500_000_000)  # and before it begins
    with Collector(ledger, JOB, tmp_path / "results.jsonl", 3, growth=growth) as collector:
        assert collector.total == 3


def test_what_is_refused_fills_no_disk(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before: every byte of it was kept, four times as long. Then it was said to be kept where it was not."""
    monkeypatch.setattr(put_aside, "QUARANTINE_BYTES", 50_000)
    growth = begin(tmp_path, ledger, A_PDF)
    for _ in range(9):
        ledger.client.xadd(JobKeys.of(JOB).results, {"record": b"\xff" * 100_000})
    with Collector(ledger, JOB, tmp_path / "results.jsonl", 1, growth=growth) as collector:
        collector.step(block_ms=0)
        assert collector.aside.count == 9
        assert 32_000 < collector.aside.file.stat().st_size < 50_000 + 40_000
        assert caplog.messages[0].endswith("quarantine.jsonl")
        assert "not kept, " in caplog.messages[-1] and caplog.messages[-1].endswith("quarantine.jsonl is full")
    growth.close()


@pytest.mark.parametrize("total", ["1500000000", "9" * 10_000])
def test_without_a_manifest_there_is_a_bound(
    total: str, tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.job.collect.MOST_PAGES_OF_A_JOB", 5000)
    ledger.create(JOB, 2, {})
    with Collector(ledger, JOB, tmp_path / "results.jsonl", 10**12) as collector:
        assert collector.total == 5000
    with Collector(ledger, JOB, tmp_path / "results.jsonl", 2) as collector:
        ledger.client.hset(JobKeys.of(JOB).job, "total", total)
        collector.step(block_ms=0)
        assert collector.total in (2, 5000)


def test_a_record_of_millions_of_pages_adds_what_a_file_may_have(tmp_path: Path, ledger: Ledger) -> None:
    """Before: ``pages: 3000000`` took a producer to 1.7 GB, and its manifest to 382 MB."""
    growth = begin(tmp_path, ledger, A_PDF, FoundPage("b.png", "file:///b.png", 0))
    growth.note(record(0, 3_000_000))
    growth.note(record(0, 3_000_000))
    added = growth.write()
    assert len(added) == MOST_PAGES_OF_A_FILE and growth.total == count_manifest(tmp_path / "manifest.jsonl")
    first = next(iter(added))
    assert (first.index, first.page, first.of) == (2, 1, 0)
    *_, last = read_manifest(tmp_path / "manifest.jsonl", growth.total - 2)
    assert last.problem and last.problem.type == "TooLarge" and "3,000,000 pages" in last.problem.message
    growth.note(record(0, 2_000_000))
    assert not growth.write()
    growth.close()
    again = Growth(tmp_path / "manifest.jsonl", ledger, JOB, growth.total)
    again.note(record(0, 3_000_000))
    again.note(record(3, 3_000_000))  # of page 1 of a.pdf: no file begins there
    assert not again.write()
    again.close()


def test_lines_are_read_again_one_at_a_time(tmp_path: Path, ledger: Ledger) -> None:
    growth = begin(tmp_path, ledger, A_PDF)
    growth.note(record(0, 4))
    first = growth.write()
    assert [line.index for line in first] == [line.page for line in first] == [1, 2, 3]
    growth.close()


def test_a_picture_gets_no_pages_by_a_record(tmp_path: Path, ledger: Ledger) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    growth = begin(tmp_path, ledger, FoundPage("a.png", (tmp_path / "a.png").as_uri(), 0))
    growth.note(record(0, 50))
    assert not growth.write() and growth.total == 1
    growth.close()


@pytest.mark.parametrize("name", ["a.tif", pytest.param("a.pdf", marks=pytest.mark.slow)])
def test_a_file_that_lies_here_is_counted_and_no_record_believed(name: str, tmp_path: Path, ledger: Ledger) -> None:
    """Before: a programme of three pages had 100,001, of a record that was written once."""
    pages = [Image.new("L", (8, 8)) for _ in range(3)]
    pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    growth = begin(tmp_path, ledger, FoundPage(name, (tmp_path / name).as_uri(), 0))
    growth.note(record(0, 2**31 - 1))
    assert [line.page for line in growth.write()] == [1, 2] and growth.total == 3
    growth.note(record(0, 2**31 - 1))
    assert not growth.write()
    growth.close()


def test_files_that_take_long_to_count_keep_no_collector_from_its_lock(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.job.growth.COUNTING_S", 0.0)
    Image.new("L", (8, 8)).save(tmp_path / "a.tif")
    growth = begin(tmp_path, ledger, FoundPage("a.tif", (tmp_path / "a.tif").as_uri(), 0))
    growth.note(record(0, 3))
    assert [line.page for line in growth.write()] == [1, 2], "as its worker says"
    growth.close()


def test_what_the_scan_did_not_take_does_not_come_back(tmp_path: Path, ledger: Ledger) -> None:
    """pdfium believes a file's number of pages, and a worker's record says it."""
    problem = Problem("CorruptImage", f"a.pdf: pages 2-? could not be counted ({NO_MORE})")
    growth = begin(tmp_path, ledger, A_PDF, FoundPage(A_PDF.image, A_PDF.uri, 1, problem))
    growth.note(record(0, 1_000_000))
    assert not growth.write() and growth.total == 2
    growth.close()


def test_a_job_does_not_grow_for_ever(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.job.growth.MOST_PAGES_OF_A_JOB", 1000)
    growth = begin(tmp_path, ledger, *(FoundPage(f"{n}.pdf", f"zip+file:///a.zip#{n}.pdf", 0) for n in range(20)))
    for index in range(20):
        growth.note(record(index, 400))
    growth.write()
    assert growth.total == count_manifest(tmp_path / "manifest.jsonl") == 1000
    growth.close()


def test_growth_asks_for_room(tmp_path: Path, ledger: Ledger) -> None:
    def check(size: int) -> None:
        raise OSError(f"no room for {size} bytes")

    begin(tmp_path, ledger, A_PDF)
    growth = Growth(tmp_path / "manifest.jsonl", ledger, JOB, 1, check)
    growth.note(record(0, 90_000))
    with pytest.raises(OSError, match="no room"):
        growth.write()
    growth.close()
    assert (tmp_path / "manifest.jsonl").stat().st_size < 2 << 20


def test_pages_missed_elsewhere_are_bounded(tmp_path: Path, ledger: Ledger) -> None:
    results = tmp_path / "results.jsonl"
    lines = [record(index, 3_000_000, f"{index}.pdf") for index in range(30)]
    results.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    found = find_missed(results, 30)
    assert {one.pages for one, _ in found} == {MOST_PAGES_OF_A_FILE}
    assert 0 < sum(one.count for one, _ in found) <= MOST_MISSED


def test_files_whose_pages_follow_are_not_looked_at_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: the name of each file of several pages was held: five million of two pages took 1.6 GB."""
    monkeypatch.setattr("producer.growing.missed_elsewhere.NAMES_AT_ONCE", 2)
    lines, short = [], []
    for number in range(40):
        first, pages, there = len(lines), 2 + number % 4, 2 + number % 4 - (number % 3 == 0)
        lines += [record(first + page, pages, f"{number}.pdf", page) for page in range(there)]
        if there < pages:
            short.append((first, there, pages, f"{number}.pdf"))
    later = short.pop()  # its last page has its record, at the end
    lines.append(record(len(lines), 1, later[3], later[1]))
    results = tmp_path / "results.jsonl"
    random.Random(3).shuffle(lines)
    results.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    found = find_missed(results, len(lines))
    assert [(one.first, one.known, one.pages, image) for one, image in found] == short
    assert [one.begin for one, _ in found] == list(range(len(lines), len(lines) + len(short)))


@pytest.mark.parametrize(
    "told",
    [
        [Missed(0, 1, 10**9, 1)],
        [Missed(0, 1, 90_000, 1 + 89_999 * number) for number in range(500)],
        [Missed(0, -(10**9), 5, 1)],
        [Missed(0, 1, 5, 1), Missed(0, 1, 5, 2)],
        [Missed(0, 1, 5, 10**12)],
    ],
    ids=["a file", "many files", "negative", "overlapping", "far away"],
)
def test_what_was_told_by_a_stranger_is_not_taken_over(
    told: list[Missed], tmp_path: Path, ledger: Ledger, client: redis.Redis
) -> None:
    begin(tmp_path, ledger, A_PDF)
    client.hset(JobKeys.of(JOB).job, FIELD, msgspec.json.encode(told))
    assert take_over(tmp_path / "manifest.jsonl", ledger, JOB) == 0
    assert count_manifest(tmp_path / "manifest.jsonl") == 1
    (tmp_path / "results.jsonl").touch()
    status = ledger.status(JOB)
    assert status and report_missed(ledger, status, tmp_path / "results.jsonl") == []


def test_what_a_collector_told_is_taken_over_once(tmp_path: Path, ledger: Ledger, client: redis.Redis) -> None:
    begin(tmp_path, ledger, A_PDF, FoundPage("b.pdf", "zip+file:///a.zip#b.pdf", 0))
    told = [Missed(0, 1, 3, 2), Missed(1, 1, 2, 4)]
    client.hset(JobKeys.of(JOB).job, FIELD, msgspec.json.encode(told))
    assert [take_over(tmp_path / "manifest.jsonl", ledger, JOB) for _ in range(2)] == [3, 0]
    assert [(line.page, line.of) for line in read_manifest(tmp_path / "manifest.jsonl", 2)] == [(1, 0), (2, 0), (1, 1)]


JPEG = FoundPage("a.jpg", "zip+file:///a.zip#a.jpg", 0)
HUNDRED = [Missed(0, 1, 100, 3), Missed(0, 1, 100, 102), Missed(0, 1, 100, 201)]


@pytest.mark.parametrize(
    ("found", "added"),
    [
        ([FoundPage("a.jpg", "file:///a.jpg", 0), JPEG, JPEG], 0),
        ([A_PDF, FoundPage(A_PDF.image, A_PDF.uri, 1), JPEG], 0),
        ([FoundPage(A_PDF.image, A_PDF.uri, 1), JPEG, JPEG], 0),
        ([A_PDF, JPEG, JPEG], 99),
    ],
    ids=["no PDF", "a page that is listed", "no first page", "once"],
)
def test_what_was_told_is_asked_of_the_list(
    found: list[FoundPage], added: int, tmp_path: Path, ledger: Ledger, client: redis.Redis
) -> None:
    """Before: a job of three JPEGs had 999,993 pages, by one field that was written once."""
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(99))
    here = file_uri(tmp_path / "a.jpg")
    found = [msgspec.structs.replace(page, uri=here) if page.uri.startswith("file:") else page for page in found]
    begin(tmp_path, ledger, *found)
    client.hset(JobKeys.of(JOB).job, FIELD, msgspec.json.encode(HUNDRED))
    assert take_over(tmp_path / "manifest.jsonl", ledger, JOB) == added
    assert take_over(tmp_path / "manifest.jsonl", ledger, JOB) == 0


def test_what_was_told_of_a_file_that_lies_here_is_counted(
    tmp_path: Path, ledger: Ledger, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages, file = [Image.new("L", (8, 8)) for _ in range(3)], tmp_path / "a.tif"
    pages[0].save(file, save_all=True, append_images=pages[1:])
    begin(tmp_path, ledger, FoundPage("a.tif", file.as_uri(), 0))
    client.hset(JobKeys.of(JOB).job, FIELD, msgspec.json.encode([Missed(0, 1, 100_000, 1)]))
    assert take_over(tmp_path / "manifest.jsonl", ledger, JOB) == 0, "before: 99,999"
    client.hset(JobKeys.of(JOB).job, FIELD, msgspec.json.encode([Missed(0, 1, 3, 1)]))
    with monkeypatch.context() as patch:  # a list that came from the broker may name any file
        patch.setattr("producer.job.growth.kind_of_file", None)
        assert take_over(tmp_path / "manifest.jsonl", ledger, JOB, opening=False) == 2


def test_what_was_told_does_not_fill_the_disk(
    tmp_path: Path, ledger: Ledger, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: 335 bytes in Redis were 3.1 GB of manifest in 4 seconds: one long name, on each of a million pages."""
    monkeypatch.setattr("producer.growing.missed_elsewhere.MOST_LIST_BYTES", 1 << 20)
    begin(tmp_path, ledger, FoundPage("a.pdf", "zip+file:///a.zip#" + "a" * 10_000, 0))
    client.hset(JobKeys.of(JOB).job, FIELD, msgspec.json.encode([Missed(0, 1, 90, 1), Missed(0, 1, 90_000, 90)]))
    assert take_over(tmp_path / "manifest.jsonl", ledger, JOB) == 89
    assert (tmp_path / "manifest.jsonl").stat().st_size < 1 << 20


def test_a_manifest_of_a_made_up_total_is_not_rebuilt(tmp_path: Path) -> None:
    """Before: 8 bytes of memory for each page that Redis named."""
    results = tmp_path / "results.jsonl"
    results.write_bytes(msgspec.json.encode(record(0, 1)) + b"\n")
    assert not bring_manifest(tmp_path / "none", results, tmp_path / "manifest.jsonl", 10**12)
    assert not (tmp_path / "manifest.jsonl").exists()
    assert not bring_manifest(tmp_path / "none", results, tmp_path / "manifest.jsonl", 1)
    assert count_manifest(tmp_path / "manifest.jsonl") == 1
