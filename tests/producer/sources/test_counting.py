"""Pages are counted as the libraries count them that open them, in little time and memory."""

from __future__ import annotations

import contextlib
import io
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePath

import pypdfium2
import pytest
import pyvips
import redis
from PIL import Image

from detector.images.decode import on_paper, premultiplied
from detector.images.page import count_pages, open_page
from detector.images.tiff import BrokenTiffError, read_chain, read_page
from producer.detector_process.page_counter import PDFIUM, PYPDF, PageCounter
from producer.errors import CannotCountError
from producer.sources.page_count import count_file
from producer.sources.passed_over import MOST_KINDS, OTHERS, PassedOver, in_words
from producer.sources.scan import scan
from producer.sources.zip_names import ZipNames, guess
from tests.big_pdf import big_pdf, enqueue_cost
from tests.faulty import count_faulty_pdfs, faulty_pdf
from tests.hostile import unpacking_pdf
from tests.nasty_pages import ZIP_NAMES, locked_pdf, named_zip, pdf
from tests.producer.records import IN_PROCESS
from tests.raw_tiff import BOTTOM, Picture, raw_tiff
from worker.ledger import Ledger


@pytest.fixture
def counter() -> Iterator[PageCounter]:
    counting = PageCounter()
    yield counting
    counting.close()


@pytest.mark.slow
def test_tiffs_are_counted_as_libtiff_and_pillow_count_them(tmp_path: Path) -> None:
    rng, path = random.Random(7), tmp_path / "a.tif"
    agreed = 0
    for _ in range(200):
        pictures = [Picture(rng.randint(8, 40), rng.randint(8, 40)) for _ in range(rng.randint(1, 6))]
        data = bytearray(raw_tiff(pictures, order=rng.choice("<>"), last=rng.choice((0, 0, 0, BOTTOM))))
        faults = rng.choice((0, 0, 1, 2))
        for _ in range(faults):
            data[rng.randrange(len(data))] = rng.randrange(256)
        data = data[: rng.choice((len(data), len(data), rng.randrange(8, len(data))))]
        path.write_bytes(data)
        try:
            with path.open("rb") as stream:
                ours = read_chain(stream)
                pages = [read_page(stream, ours, page) for page in range(len(ours.places))]
        except BrokenTiffError:
            with pytest.raises(Exception):  # noqa: B017  # whatever Pillow says of it
                Image.open(path).seek(1)
            continue
        try:
            theirs = pyvips.Image.tiffload_buffer(bytes(data), fail_on="none").get("n-pages")
        except pyvips.Error:
            continue  # the first directory lacks what libvips needs; opening it says so
        if any(page.reduced for page in pages):
            continue  # a flipped byte in tag 254
        # libtiff stops at a directory with a spoilt tag; the pages behind it exist, and each gets its record.
        assert theirs == len(pages) or ours.broken or (faults and theirs < len(pages)), (theirs, ours)
        agreed += theirs == len(pages)
    assert agreed > 120


def test_reduced_pictures_are_no_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(raw_tiff([Picture(16, 12, 1), Picture(64, 48), Picture(32, 24, 1), Picture(80, 60)]))
    assert count_pages(path) == count_file(path, None).pages == 2
    assert [open_page(path, page, limit_side=100).width for page in range(2)] == [64, 80]
    path.write_bytes(raw_tiff([Picture(64, 48), Picture(64, 48, 1)]))  # as large: called reduced by mistake
    assert count_pages(path) == 2


@pytest.mark.slow
def test_pdfs_are_counted_by_pdfium(tmp_path: Path, counter: PageCounter) -> None:
    for name, data, pages in (("a", pdf(3), 3), ("b", locked_pdf(5, ""), 5), ("c", pdf(4).partition(b"xref")[0], 4)):
        path = tmp_path / f"{name}.jpg"
        path.write_bytes(data)
        try:
            true = len(pypdfium2.PdfDocument(path))
        except pypdfium2.PdfiumError:
            with pytest.raises(CannotCountError):
                counter.count(path)
            continue
        assert counter.count(path) == true == pages == count_file(path, counter.count).pages
    with pytest.raises(CannotCountError, match="password"):
        (tmp_path / "locked.pdf").write_bytes(locked_pdf(2, "secret"))
        counter.count(tmp_path / "locked.pdf")
    (tmp_path / "no.pdf").write_bytes(b"%PDF-1.7 and then nothing")
    with pytest.raises(CannotCountError):
        counter.count(tmp_path / "no.pdf")


@pytest.mark.slow
def test_faulty_pdfs_are_counted_as_pdfium_and_qpdf_count_them(tmp_path: Path, counter: PageCounter) -> None:
    """No page vanishes: what pdfium cannot open, of what qpdf sees, is said. The large form: tests/bench."""
    trial = count_faulty_pdfs(range(60), tmp_path / "a.pdf", counter.count)
    assert trial.wrong == [] and trial.agreed > 30 and trial.told > 5


def test_what_is_said_of_a_member_names_the_member(tmp_path: Path, counter: PageCounter) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.writestr("locked.pdf", locked_pdf(2, "secret"))
    told: list[str] = []
    readers = IN_PROCESS._replace(count_pdf=counter.count)
    assert len(list(scan([str(tmp_path / "a.zip")], readers, warn=told.append))) == 1
    assert "ocrfleet-count" not in told[0] and "a.zip/locked.pdf" in told[0] and "password" in told[0]


def test_encrypted_pdfs_are_counted_without_pdfium_too(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(locked_pdf(5, ""))
    assert count_file(tmp_path / "a.pdf", None).pages == 5  # pypdf[crypto]


@pytest.mark.slow
def test_what_no_worker_sees_whole_is_counted_or_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--transfer redis` pages of large PDFs travel alone, so nobody puts pypdf's count right."""
    monkeypatch.setattr("producer.sources.page_count.MAX_BLOB_BYTES", 0)
    path, missed, told = tmp_path / "a.pdf", 0, []
    for seed in range(200):
        fault, data = faulty_pdf(seed)
        path.write_bytes(data)
        with contextlib.suppress(CannotCountError, pypdfium2.PdfiumError):
            pages, broken = count_file(path, None)
            told += [fault] if broken else []
            if pages < len(pypdfium2.PdfDocument(path)):
                assert broken, f"{seed} ({fault})"
                missed += 1
    assert missed > 10 and "none" not in told


@pytest.mark.slow
def test_a_large_damaged_pdf_has_a_failed_record_for_what_pypdf_may_miss(tmp_path: Path) -> None:
    big_pdf(tmp_path / "a.pdf", 3, 64 << 20)
    sound = (tmp_path / "a.pdf").read_bytes() + b"F\n"
    readers = IN_PROCESS._replace(count_pdf=None)
    for data, pages in ((sound, 3), (sound.replace(b"5 0 R", b"9 0 R", 1), 2)):
        (tmp_path / "a.pdf").write_bytes(data)
        found = list(scan([str(tmp_path / "a.pdf")], readers))
        problems = [each.problem.message for each in found if each.problem]
        assert len(found) - len(problems) == pages
        assert len(problems) == (pages < 3) and all("pages 3-? could not be counted" in each for each in problems)


@pytest.mark.slow
@pytest.mark.parametrize("module", [PDFIUM, PYPDF])
def test_a_bare_producer_counts_in_a_process_too(module: str, tmp_path: Path) -> None:
    """Before: pypdf counted in the producer itself."""
    (tmp_path / "a.pdf").write_bytes(pdf(3))
    (tmp_path / "no.pdf").write_bytes(b"%PDF-1.7 and then nothing")
    with contextlib.closing(PageCounter(module=module)) as counting:
        assert counting.count(tmp_path / "a.pdf") == 3
        for name in ("no.pdf", "gone.pdf"):
            with pytest.raises(CannotCountError):
                counting.count(tmp_path / name)
        assert counting.count(tmp_path / "a.pdf") == 3


HOSTILE_MB = 256 + 150


@pytest.mark.slow
@pytest.mark.parametrize("module", [PDFIUM, PYPDF])
def test_a_pdf_that_unpacks_is_counted_within_the_limit(module: str, tmp_path: Path) -> None:
    """Before: pdfium took 788 MB over it, and pypdf what it liked, in the producer."""
    (tmp_path / "a.pdf").write_bytes(unpacking_pdf())
    (tmp_path / "b.pdf").write_bytes(pdf(2))
    done = subprocess.run(
        [sys.executable, "-c", COUNT_HOSTILE, module, str(tmp_path / "a.pdf"), str(tmp_path / "b.pdf")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    refused, after, peak_mb = done.stdout.splitlines()
    assert "Error" in refused and after == "2" and int(peak_mb) < HOSTILE_MB


COUNT_HOSTILE = """
import resource, sys
from pathlib import Path
from producer.detector_process.page_counter import PageCounter
from producer.errors import CannotCountError
counter = PageCounter(module=sys.argv[1])
try:
    print(counter.count(Path(sys.argv[2])))
except CannotCountError as error:
    print(repr(error))
print(counter.count(Path(sys.argv[3])))
counter.close()
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


@pytest.mark.parametrize(("pages", "filler"), [(40, 400_000_000), (10_000, 1000)])
def test_large_pdfs_cost_the_producer_little(
    tmp_path: Path, pages: int, filler: int, environment: dict[str, str], client: redis.Redis
) -> None:
    """Before: 48 s and 834 MB for the 400 MB without a tail."""
    big_pdf(tmp_path / "big.pdf", pages, filler)
    cost = enqueue_cost(environment, client, tmp_path / "big.pdf", "large")
    status = Ledger(client, ttl_s=3600).status("large")
    assert status is not None and status.total == pages
    assert cost.first_s < 10  # 1 on a machine that does nothing else: tests/bench/bench_counting.py
    assert cost.own_mb < 110 and cost.child_mb < 100


def test_names_in_zips_are_shown_as_they_were_meant() -> None:
    for name, encoding in ZIP_NAMES.items():
        with zipfile.ZipFile(io.BytesIO(named_zip(name, encoding))) as bundle:
            (info,) = bundle.infolist()
            assert ZipNames([info]).shown(info) == name, encoding
    assert guess([b"plain.png"]) == "utf-8"
    assert guess([b"\xff\xfe\x81"]) in ("cp437", "cp1252", "gb18030", "cp932")  # never an error


def test_what_is_passed_over_is_counted_in_bounds() -> None:
    passed = PassedOver()
    for number in range(3 * MOST_KINDS):
        passed.file(PurePath(f"a.x{number}"))
    passed.file(PurePath("README"))
    assert len(passed.counts) == MOST_KINDS + 1 and passed.counts[OTHERS] == 2 * MOST_KINDS + 1
    assert in_words({".txt": 2, ".doc": 30}) == "passed over: 30 .doc, 2 .txt" and in_words({}) == ""


@pytest.mark.parametrize(("ink", "paper"), [(255, 0), (0, 255)])
def test_paper_is_what_the_ink_stands_out_from(ink: int, paper: int) -> None:
    import numpy as np

    colours, alpha = np.full((40, 40, 3), ink, np.uint8), np.zeros((40, 40), np.uint8)
    alpha[10:12, 5:30] = 255
    seen = on_paper(premultiplied(colours, alpha), alpha)
    assert seen[0, 0].tolist() == [paper] * 3 and seen[10, 10].tolist() == [ink] * 3
