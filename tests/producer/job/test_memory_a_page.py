"""What is remembered of each page of a job takes a byte or so: of ten million pages a dict was 800 MB and more."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from producer.bounds import MOST_PAGES_OF_A_JOB
from producer.growing import marks
from producer.growing.new_pages import KnownPages
from producer.job import recount as recounting
from producer.job.begin_again import adopt
from producer.job.manifest import read_manifest, write_manifest
from producer.job.recount import recount
from producer.job.results_file import PageMarks, drop_failed, keep_last_records
from producer.job.results_owner import owner_of
from producer.sources.found_page import FoundPage, Problem
from producer.sources.page_count import PageCount
from producer.sources.scan import file_uri
from worker.ledger import Ledger

PAGES = 8_000


def line(index: int, status: str = "ok", job: str = "job") -> bytes:
    """A record, as short as it may be."""
    seconds = dict.fromkeys(("fetch", "open", "infer", "post", "total"), 0)
    record = {"index": index, "image": f"{index}.jpg", "page": 0, "status": status, "seconds": seconds, "job": job}
    return msgspec.json.encode(record) + b"\n"


@contextmanager
def at_most(bytes_a_page: float, pages: int = PAGES, beside: int = 200_000) -> Iterator[None]:
    """What the block allocates at a time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < beside + bytes_a_page * pages
    finally:
        tracemalloc.stop()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Every page but the first failed; the first did, and was made good."""
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"".join(line(index, "failed") for index in range(PAGES)) + line(0))
    return path


def test_the_last_record_of_each_page_stays(tmp_path: Path) -> None:
    """As when the last line of each page was remembered; however often a page has one, and whatever stands between."""
    chance = random.Random(5)
    path = tmp_path / "results.jsonl"
    for often in (1, 2, 254, 255, 256, 257, 511, 512, 700):
        indices = [chance.randrange(40) for _ in range(200)] + [41] * often + [-1, 1 << 70, MOST_PAGES_OF_A_JOB, -1]
        chance.shuffle(indices)
        lines = [line(index, chance.choice(("ok", "failed")), f"j{number}") for number, index in enumerate(indices)]
        last = {index: number for number, index in enumerate(indices)}
        kept = [
            lines[number]
            for number, index in enumerate(indices)
            if last[index] == number or not 0 <= index < MOST_PAGES_OF_A_JOB
        ]
        lines.insert(chance.randrange(len(lines)), b"no record\n")
        path.write_bytes(b"".join(lines))
        keep_last_records(path)
        assert path.read_bytes() == b"".join(kept), often


@pytest.mark.slow
def test_dropping_what_a_retry_made_good(results: Path) -> None:
    with at_most(2):
        keep_last_records(results)
    lines = results.read_bytes().splitlines(keepends=True)
    assert len(lines) == PAGES and lines[-1] == line(0) and lines[0] == line(1, "failed")


def test_dropping_the_failed(results: Path) -> None:
    with at_most(2):
        dropped = drop_failed(results)
        assert len(dropped) == PAGES
    assert results.read_bytes() == line(0)
    assert list(dropped)[-2:] == [PAGES - 2, PAGES - 1]


def test_marks() -> None:
    marks = PageMarks()
    for index, mark in ((7, 2), (3, 1), (-1, 1), (1 << 70, 1), (9, 1), (9, 0)):
        marks[index] = mark
    assert (list(marks), list(marks.pages(2)), len(marks)) == ([3, 7], [7], 2)
    assert [marks[index] for index in (-1, 3, 7, 8, 1 << 70)] == [0, 1, 2, 0, 0]


def test_adopting(ledger: Ledger, results: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    write_manifest((FoundPage(f"{index}.jpg", f"file:///{index}.jpg", 0) for index in range(PAGES)), manifest)
    ledger.create("job", PAGES, {})
    status = ledger.status("job")
    assert status is not None
    with at_most(2, beside=400_000):  # a thousand pages are told to the broker at once
        assert adopt(ledger, results, manifest, owner_of(status)) == PAGES
    status = ledger.status("job")
    assert status is not None and (status.ok, status.failed) == (1, PAGES - 1), "the last record of a page counts"


@pytest.mark.slow
def test_known_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "SHELVES", 16)  # 1024 empty shelves are 80 KB: nothing beside ten million pages
    manifest = tmp_path / "manifest.jsonl"
    pages = [FoundPage(f"{index}.jpg", f"file:///{index}.jpg", index % 3) for index in range(PAGES)]
    write_manifest(pages, manifest)
    with at_most(10):
        known = KnownPages(manifest)
    assert all(page in known for page in pages)
    others = [FoundPage("x.jpg", page.uri, page.page + 1) for page in pages[::100]]
    assert not any(page in known for page in others)
    assert pages[0] not in KnownPages(tmp_path / "none.jsonl")
    before = marks.mark_of(b"a")
    monkeypatch.setattr(marks, "_KEY", bytes(16))
    assert marks.mark_of(b"a") != before, "else two names with one mark can be looked for"


def test_pages_of_repaired_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: all lines of these pages were held until the rest was written."""
    manifest = tmp_path / "manifest.jsonl"
    broken = Problem("CorruptImage", "not counted")
    for name in "ab":
        (tmp_path / name).touch()
    pages = [
        FoundPage(name, file_uri(tmp_path / name), page, broken if page else None) for name in "ab" for page in (0, 1)
    ]
    write_manifest(pages, manifest)
    monkeypatch.setattr(recounting, "count_file", lambda path, count, time: PageCount(PAGES // 2))
    with at_most(2):
        assert recount(manifest, [1, 3], ()) == PAGES
    lines = list(read_manifest(manifest))
    assert len(lines) == PAGES and not any(one.problem for one in lines)
    for name, first, begin, end in (("a", 0, 4, PAGES // 2 + 2), ("b", 2, PAGES // 2 + 2, PAGES)):
        added = lines[begin:end]
        assert {(one.image, one.of) for one in added} == {(name, first)}
        assert [one.page for one in added] == list(range(2, PAGES // 2))
