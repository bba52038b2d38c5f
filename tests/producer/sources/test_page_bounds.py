"""What a file says of its pages is believed within bounds, wherever it is counted; the rest is one failed record."""

from __future__ import annotations

import os
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from detector.images.tiff import COUNTED
from producer.archive_process.limited_readers import limited_readers
from producer.bounds import BELIEVED_PAGES
from producer.detector_process.page_counter import PDFIUM, PYPDF, PageCounter
from producer.errors import NO_MORE, CannotCountError
from producer.job.manifest import write_manifest
from producer.job.recount import recount
from producer.sources.page_count import PageCount, count_file
from producer.sources.readers import Readers
from producer.sources.scan import FoundPage, scan
from producer.sources.scan_time import SCAN_S_PER_FILE, SCAN_S_PER_MIB, ScanTime
from tests.faulty import drawn_pdf
from tests.raw_tiff import Picture, raw_tiff

MILLION = 1_000_000


def written_pdf(*objects: bytes) -> bytes:
    """A PDF of these objects, from number 1, which is its root."""
    out, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj%sendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + end


def boasting_pdf(count: int = MILLION) -> bytes:
    """One page, and a number that says otherwise: 300 bytes."""
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>"
    return written_pdf(b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count %d>>" % count, page)


def nested_pdf(levels: int = 6, fan: int = 10) -> bytes:
    """One page, listed a million times by nodes that are listed ten times each."""
    nodes = [
        b"<</Type/Pages/Kids[%s]/Count %d>>" % (b" ".join([b"%d 0 R" % (level + 3)] * fan), fan ** (levels - level))
        for level in range(levels)
    ]
    return written_pdf(b"<</Type/Catalog/Pages 2 0 R>>", *nodes, b"<</Type/Page/MediaBox[0 0 9 9]>>")


@pytest.fixture
def readers() -> Iterator[Readers]:
    with limited_readers() as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize("module", [PDFIUM, PYPDF])
@pytest.mark.parametrize("data", [boasting_pdf(), nested_pdf()], ids=["boasting", "nested"])
def test_a_small_file_has_no_million_pages(module: str, data: bytes, tmp_path: Path) -> None:
    """Before: 304 bytes were a million lines of manifest, 60 MB."""
    path = tmp_path / "a.pdf"
    path.write_bytes(data)
    with closing(PageCounter(module=module)) as counter:
        if (module, data) == (PYPDF, nested_pdf()):
            with pytest.raises(CannotCountError, match="page tree entry limit"):  # pypdf's own
                count_file(path, counter.count)
            return
        counted = count_file(path, counter.count)
    assert counted.pages <= 10 and NO_MORE in counted.broken


@pytest.mark.slow
def test_what_is_not_taken_is_one_failed_record_of_files_and_members(tmp_path: Path, readers: Readers) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.pdf").write_bytes(boasting_pdf())
    with zipfile.ZipFile(folder / "b.zip", "w", zipfile.ZIP_DEFLATED) as bundle:
        for number in range(3):
            bundle.writestr(f"{number}.pdf", boasting_pdf())
    pages = list(scan([str(folder)], readers))
    assert [(page.page, bool(page.problem)) for page in pages] == [(0, False), (1, True)] * 4
    for page in pages[1::2]:
        assert page.problem and "1,000,000 pages" in page.problem.message and NO_MORE in page.problem.message


def test_a_little_more_than_listed_is_a_matter_of_the_worker(tmp_path: Path, readers: Readers) -> None:
    """pdfium opens pages of damaged PDFs that pypdf does not find."""
    (tmp_path / "a.pdf").write_bytes(boasting_pdf(BELIEVED_PAGES))
    assert count_file(tmp_path / "a.pdf", readers.count_pdf) == PageCount(BELIEVED_PAGES)


@pytest.mark.slow
def test_long_documents_are_taken_whole(tmp_path: Path, readers: Readers) -> None:
    (tmp_path / "a.pdf").write_bytes(drawn_pdf(3000, streams=True, depth=3))
    assert count_file(tmp_path / "a.pdf", readers.count_pdf) == PageCount(3000)


def test_no_file_has_more_pages_than_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files that do have them, too; and a retry, which counts again, brings none of them back."""
    monkeypatch.setattr("producer.sources.page_count.MOST_PAGES_OF_A_FILE", 5)
    (tmp_path / "a.tif").write_bytes(raw_tiff([Picture(8, 8)] * 7))
    (tmp_path / "b.tif").write_bytes(raw_tiff([Picture(8, 8)] * 5))
    with limited_readers() as readers:
        pages = list(scan([str(tmp_path)], readers))
    assert [(page.image, page.page) for page in pages if not page.problem] == [
        *(("a.tif", page) for page in range(5)),
        *(("b.tif", page) for page in range(5)),
    ]
    [beyond] = [page for page in pages if page.problem]
    assert beyond.problem and (beyond.problem.type, beyond.page) == ("TooLarge", 5)
    assert "7 pages" in beyond.problem.message and "split it" in beyond.problem.message
    manifest = tmp_path / "manifest.jsonl"
    write_manifest(pages, manifest)
    assert recount(manifest, [5], ()) == 0


class FullError(Exception):
    """No room."""


def test_a_manifest_asks_for_room_while_it_is_written(tmp_path: Path) -> None:
    def check(size: int) -> None:
        if size > 3 << 20:
            raise FullError

    endless = (FoundPage("a", "file:///a", page) for page in range(10**9))
    with pytest.raises(FullError):
        write_manifest(endless, tmp_path / "manifest.jsonl", check=check)
    assert list(tmp_path.iterdir()) == []


def test_a_job_has_a_bound_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.job.manifest.MOST_PAGES_OF_A_JOB", 2000)
    endless = (FoundPage("a", "file:///a", page) for page in range(10**9))
    with pytest.raises(Exception, match="more than 2,000 pages"):
        write_manifest(endless, tmp_path / "manifest.jsonl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_tree_that_cannot_be_read_lists_what_its_bytes_allow(tmp_path: Path) -> None:
    """220 bytes were a million pages: pypdf fails at ``/Kids 5``, and pdfium was believed."""
    pages = b"<</Type/Pages/Kids 5/Count %d>>" % MILLION
    (tmp_path / "a.pdf").write_bytes(written_pdf(b"<</Type/Catalog/Pages 2 0 R>>", pages))
    with closing(PageCounter(module=PDFIUM)) as counter:
        found = count_file(tmp_path / "a.pdf", counter.count)
    assert found.pages < 100
    assert NO_MORE in found.broken


def test_tags_of_a_million_values_are_not_kept(tmp_path: Path) -> None:
    """1 MB with five directories took 549 MB in the producer, and in the page: they share the same values."""
    shared = 1_000_000
    entries = b"".join(struct.pack("<HHII", tag, 1, shared, 8) for tag in sorted(COUNTED))
    size = 2 + len(entries) + 4
    begins = [8 + shared + number * size for number in range(5)]
    directories = [struct.pack("<H", len(COUNTED)) + entries + struct.pack("<I", after) for after in [*begins[1:], 0]]
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", begins[0]) + bytes(shared) + b"".join(directories))
    tracemalloc.start()
    try:
        assert count_file(tmp_path / "a.tif", None).pages == 5
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def piled_tif(pages: int, entries: int = 4096) -> bytes:
    """Directories of many entries that lie over each other, 6 bytes apart: each entry is read for each of them."""
    data = bytearray(8 + 6 * pages + 12 * entries + 8)
    data[:8] = b"II*\0" + struct.pack("<I", 8)
    for place in range(8, 8 + 6 * pages, 6):
        struct.pack_into("<H", data, place, entries)
    for place in range(8, 8 + 6 * pages, 6):
        struct.pack_into("<I", data, place + 2 + 12 * entries, place + 6 if place < 2 + 6 * pages else 0)
    return bytes(data)


@pytest.mark.slow
def test_directories_that_lie_over_each_other_are_not_all_read(tmp_path: Path) -> None:
    """Before: 8,000 of them, 97 KB, were 2.7 s in the producer's own process, and 65,535 of them, 442 KB, 22 s."""
    path = tmp_path / "a.tif"
    path.write_bytes(piled_tif(8000))
    counted = count_file(path, None)
    assert counted.pages < 100 and "lie over each other" in counted.broken
    os.truncate(path, 1 << 40)  # by its length it may have any number
    assert count_file(path, None).pages < 2000


def test_tiffs_are_counted_in_the_time_of_the_scan(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(piled_tif(500, entries=2))
    left = ScanTime()
    before = left.left_s()
    count_file(path, None, left)
    assert left.left_s() < before + SCAN_S_PER_FILE + SCAN_S_PER_MIB * path.stat().st_size / (1 << 20), "it is paid for"
    left.use_up()
    left.grant = lambda path: None  # type: ignore[method-assign]
    with pytest.raises(CannotCountError, match="its worker counts them"):
        count_file(path, None, left)
