"""A searchable PDF of a thick book in little memory: `ocr-producer export --format pdf` in a cgroup. Needs root.

    python tests/bench/bench_searchable_pdf.py [--pages 500] [--limit-mb 512]

Every page is a JPEG of its own of A4 at 150 dpi with 45 lines of eight words. Afterwards: `qpdf --check`, text of the
first and the last page by pdftotext, and the bytes of every image beside those of the source.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import img2pdf
import numpy as np
import pikepdf

sys.path.insert(0, str(Path(__file__).parents[2]))

from detector.record import WordRecord
from producer.job.manifest import write_manifest
from producer.sources.scan import FoundPage
from tests.bench.cgroup import MemoryCgroup
from tests.document_checks import pdf_words, qpdf_problems
from tests.producer.records import own_request
from worker.messages import BoxRecord, ImageRecord, encode

WIDTH, HEIGHT = 1240, 1754
LINES, WORDS = 45, 8


def page_jpeg(rng: np.random.Generator) -> bytes:
    """A page as a scanner gives it: paper with grain, and dark lines."""
    paper = rng.normal(235, 6, (HEIGHT, WIDTH)).clip(0, 255).astype(np.uint8)
    for number in range(LINES):
        top = 100 + 35 * number
        strokes = rng.random((20, WIDTH - 240)) < 0.4
        paper[top : top + 20, 120:-120][strokes] = 40
    return bytes(cv2.imencode(".jpg", paper, (cv2.IMWRITE_JPEG_QUALITY, 70))[1])


def record(page: int, name: str) -> ImageRecord:
    """What a worker would say of such a page."""
    boxes = []
    for number in range(LINES):
        top = 100.0 + 35 * number
        words = []
        for word in range(WORDS):
            left, right = 120.0 + 125 * word, 120.0 + 125 * word + 110
            corners = [(left, top), (right, top), (right, top + 20), (left, top + 20)]
            words.append(WordRecord(f"p{page}l{number}w{word}", corners, 0.9))
        corners = [(120.0, top), (1105.0, top), (1105.0, top + 20), (120.0, top + 20)]
        text = " ".join(word.text for word in words)
        boxes.append(BoxRecord(corners, 0.9, text, 0.9, words, 0.0, number))
    return ImageRecord(
        job="book", index=page, image=name, page=page, status="ok", width=WIDTH, height=HEIGHT, boxes=boxes
    )


def write_job(folder: Path, pages: int) -> Path:
    """The book, and an output folder as if it had been read."""
    rng = np.random.default_rng(0)
    scans = []
    for page in range(pages):
        scans.append(folder / f"{page:04}.jpg")
        scans[-1].write_bytes(page_jpeg(rng))
    book, out = folder / "book.pdf", folder / "out"
    with book.open("wb") as stream:
        img2pdf.convert([str(scan) for scan in scans], outputstream=stream)
    own_request(out, folder)
    with (out / "results.jsonl").open("wb") as results:
        for page in range(pages):
            results.write(encode(record(page, "book.pdf")) + b"\n")
    write_manifest((FoundPage("book.pdf", book.as_uri(), page) for page in range(pages)), out / "manifest.jsonl")
    return out


def same_images(first: Path, second: Path) -> int:
    """How many pages of two PDFs have an image of the same bytes."""
    with pikepdf.open(first) as one, pikepdf.open(second) as other:
        return sum(
            [image.read_raw_bytes() for image in page.get_images().values()]
            == [image.read_raw_bytes() for image in copied.get_images().values()]
            for page, copied in zip(one.pages, other.pages, strict=True)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=500)
    parser.add_argument("--limit-mb", type=int, default=512)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        out = write_job(folder, arguments.pages)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        started = time.perf_counter()
        with MemoryCgroup(arguments.limit_mb) as cgroup:
            command = [sys.executable, "-m", "producer.cli", "export", str(out), "--format", "pdf"]
            ended = cgroup.run(command, environment)
            usage = cgroup.usage()
        seconds = time.perf_counter() - started
        made = out / "export-pdf" / "book.pdf"
        if ended.returncode or not made.is_file():
            sys.exit(f"the export ended with {ended.returncode}, {usage.oom_kills} OOM kills")
        *_, last = pages = list(pdf_words(made))
        found = sum(len(words) for words in pages)
        print("| pages | MB | seconds | peak RSS MiB | OOM kills | images as they were | words found | qpdf |")
        print("|---|---|---|---|---|---|---|---|")
        size, same = made.stat().st_size / 1e6, same_images(folder / "book.pdf", made)
        print(
            f"| {len(pages)} | {size:.0f} | {seconds:.0f} | {ended.peak_mb:.0f} | {usage.oom_kills} | {same} | "
            f"{found} of {arguments.pages * LINES * WORDS} | {qpdf_problems(made) or 'clean'} |"
        )
        assert last[0].text == f"p{arguments.pages - 1}l0w0", last[0]


if __name__ == "__main__":
    main()
