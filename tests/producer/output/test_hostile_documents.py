"""Exports that open the pages again do so in processes with limits: a stranger's file takes neither memory nor time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from producer.detector_process.pdf_pages import PdfPages
from producer.job.manifest import write_manifest
from producer.output.searchable_pdf import MEMORY_BYTES
from producer.sources.scan import FoundPage
from tests.hostile import animated_webp, unpacking_pdf
from tests.producer.records import BOX, ok, own_request, pdf, write_results
from worker.messages import BoxRecord

EXPORT = """
import resource, sys
from pathlib import Path
from detector.memory import peak_rss_mb
from producer.output.formats import export_results
for name in sys.argv[2:]:
    print(sorted(path.name for path in export_results(Path(sys.argv[1]), name).rglob("*.[jp]*")))
print(peak_rss_mb(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_what_unpacks_is_left_out(tmp_path: Path) -> None:
    """Before: the PDF of a WebP of 94 bytes took 1.4 GB in the producer, and in the web service."""
    out = tmp_path / "out"
    (tmp_path / "a.webp").write_bytes(animated_webp(12_900))
    (tmp_path / "b.pdf").write_bytes(unpacking_pdf(1 << 30))
    (tmp_path / "c.pdf").write_bytes(pdf(1))
    names = ("a.webp", "b.pdf", "c.pdf")
    box = BoxRecord(BOX.points, 0.9, "text", 0.9, [], 0.0, 0)
    own_request(out, tmp_path)
    write_results(out, [ok(index, name, boxes=[box]) for index, name in enumerate(names)])
    write_manifest((FoundPage(name, (tmp_path / name).as_uri(), 0) for name in names), out / "manifest.jsonl")
    done = subprocess.run([sys.executable, "-c", EXPORT, out, "pdf", "crops"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pdfs, crops, peaks = done.stdout.splitlines()
    assert pdfs == "['c.pdf']" and crops.count(".jpg") == 1
    own_mb, child_mb = map(float, peaks.split())
    assert own_mb < 150 and child_mb < (MEMORY_BYTES >> 20) + 150


@pytest.mark.slow
def test_single_pages_are_taken_out_within_limits(tmp_path: Path) -> None:
    """For --transfer redis. Before: pypdf did it in the producer, without a limit."""
    pages = PdfPages()
    try:
        (tmp_path / "a.pdf").write_bytes(pdf(3))
        (tmp_path / "b.pdf").write_bytes(unpacking_pdf())
        out = tmp_path / "page.pdf"
        assert not pages.take(tmp_path / "b.pdf", 0, out) and not out.exists()
        assert not pages.take(tmp_path / "a.pdf", 7, out) and not out.exists()
        assert pages.take(tmp_path / "a.pdf", 2, out) and out.read_bytes().startswith(b"%PDF")
    finally:
        pages.close()
