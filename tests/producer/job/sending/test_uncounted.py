"""Files that no scan has counted: with `--transfer redis`, too, somebody says how many pages they have."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
from msgspec import UNSET
from PIL import Image

from producer.detector_process.page_counter import PageCounter
from producer.errors import CannotCountError
from producer.growing.new_pages import append_pages
from producer.job.manifest import ManifestLine, read_manifest, write_manifest
from producer.job.upload import CannotSendError, Parcel, Uploader
from producer.sources.page_count import PageCount, settle
from producer.sources.scan import file_uri, found_pages
from tests.fleet.parcels import content, packed
from tests.producer.records import pdf
from worker.detection import _true_pages
from worker.ledger import Ledger
from worker.messages import decode_task, encode

JOB = "uncounted"
pytestmark = pytest.mark.slow


def line_of(path: Path, *, uncounted: bool = True) -> ManifestLine:
    return ManifestLine(0, path.name, file_uri(path), 0, uncounted=uncounted)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    (tmp_path / "three.pdf").write_bytes(pdf(3))
    return tmp_path / "three.pdf"


@contextmanager
def uploader(ledger: Ledger, *, shrink: bool = False, largest: int = 1 << 20) -> Iterator[Uploader]:
    with Uploader(ledger, JOB, limit_side=64 * shrink, shrink=shrink) as one:
        one.largest = largest
        yield one


def said_by_its_worker(ledger: Ledger, one: Uploader, parcel: Parcel) -> object:
    """How many pages the record of this page will tell of."""
    ledger.create(JOB, 1, {})
    (task,) = one.send([parcel])
    with NamedTemporaryFile() as copy:
        copy.write(content(parcel))
        copy.flush()
        with Path(copy.name).open("rb") as file:
            return _true_pages(decode_task(encode(task)), file)


def refuse_to_count() -> PageCount:
    raise CannotCountError("it is larger than 256 MB; its worker counts them")


def test_the_list_says_what_was_not_counted(tmp_path: Path) -> None:
    settled = settle("a.pdf", refuse_to_count, lambda line: None)
    pages = list(found_pages("a.pdf", "file:///a.pdf", settled))
    write_manifest(pages, tmp_path / "manifest.jsonl")
    append_pages(tmp_path / "manifest.jsonl", pages)
    counted = list(found_pages("b.pdf", "file:///b.pdf", settle("b.pdf", lambda: PageCount(2), lambda line: None)))
    append_pages(tmp_path / "manifest.jsonl", counted)
    assert [line.uncounted for line in read_manifest(tmp_path / "manifest.jsonl")] == [True, True, False, False]


def test_a_small_pdf_travels_whole(ledger: Ledger, three: Path) -> None:
    """Before: its first page alone, and the two others were nowhere, of a job that was complete."""
    with uploader(ledger) as one:
        parcel = packed(one, line_of(three))
        assert parcel.data == three.read_bytes() and not parcel.alone
        assert said_by_its_worker(ledger, one, parcel) == 3


def test_of_a_member_of_an_archive_too(ledger: Ledger, three: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.write(three, "three.pdf")
    line = ManifestLine(0, "a", file_uri(tmp_path / "a.zip", "zip+file", b"three.pdf"), 0, uncounted=True)
    with uploader(ledger, largest=three.stat().st_size - 1) as one:
        parcel = packed(one, line)
        assert parcel.alone and said_by_its_worker(ledger, one, parcel) == 3


def test_what_a_counted_one_says_of_itself_is_not_asked(ledger: Ledger, tmp_path: Path) -> None:
    """Of a PDF of three pages whose tree says two million the list had 100,001."""
    liar = pdf(3).replace(b"/Count 3", b"/Count 2000000")
    assert b"/Count 2000000" in liar
    (tmp_path / "liar.pdf").write_bytes(liar)
    with uploader(ledger) as one:
        parcel = packed(one, line_of(tmp_path / "liar.pdf", uncounted=False))
        assert parcel.alone and said_by_its_worker(ledger, one, parcel) is UNSET
        one.largest = len(liar) - 1
        parcel = packed(one, line_of(tmp_path / "liar.pdf"))
        assert parcel.alone and parcel.pages == 3, "as pdfium counts them"


def test_a_large_pdf_is_counted_before_its_page_is_sent(ledger: Ledger, three: Path) -> None:
    with uploader(ledger, largest=three.stat().st_size - 1) as one:
        parcel = packed(one, line_of(three))
        assert parcel.alone and said_by_its_worker(ledger, one, parcel) == 3


def test_one_that_nobody_can_count_fails(ledger: Ledger, three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PageCounter, "count", lambda self, path: refuse_to_count().pages)
    with uploader(ledger, largest=three.stat().st_size - 1) as one:
        with pytest.raises(CannotSendError, match=r"three\.pdf: its pages could not be counted \(it is larger"):
            packed(one, line_of(three))
        assert one._files == []
        one._counter._left_s = 0.0  # used up by others
        monkeypatch.undo()
        with pytest.raises(CannotSendError, match="others of this job took more than 60 s"):
            packed(one, line_of(three))


@pytest.mark.parametrize("suffix", [".tif", ".pdf"])
def test_what_is_made_smaller_says_how_many(ledger: Ledger, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    frames = [Image.new("RGB", (200, 100), (shade, 0, 0)) for shade in (0, 90, 180)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with uploader(ledger, shrink=True) as one:
        parcel = packed(one, line_of(path))
        assert parcel.original is not None and said_by_its_worker(ledger, one, parcel) == 3
