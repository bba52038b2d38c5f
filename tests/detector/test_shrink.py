"""Pages made small for a slow line: within the memory of the machine that sends, never smaller than asked."""

from __future__ import annotations

import io
import json
from pathlib import Path
from urllib.parse import quote

import cv2
import pytest
from PIL import Image

from detector.errors import CorruptImage
from detector.images.page import DEFAULT_MAX_PIXELS
from detector.shrink import memory_limit, serve, shrink
from tests.detector.images.test_pdf_pictures import document, picture
from tests.detector.samples import noise


@pytest.fixture
def progressive(tmp_path: Path) -> Path:
    """9 megapixels, of which libjpeg keeps all coefficients: about 27 MB."""
    path = tmp_path / "progressive.jpg"
    noise(600, 600).resize((3000, 3000)).save(path, progressive=True)
    return path


@pytest.mark.slow
def test_what_fits_is_written_at_the_limit(progressive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jpg"
    assert shrink(progressive, 0, out, limit_side=640, max_bytes=64 << 20)["smaller"]
    assert Image.open(out).size == (640, 640)


def test_what_does_not_fit_is_refused_and_not_sent_smaller(progressive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jpg"
    with pytest.raises(MemoryError, match="16 MiB are free"):
        shrink(progressive, 0, out, limit_side=640, max_bytes=16 << 20)
    assert list(tmp_path.iterdir()) == [progressive]


@pytest.mark.slow
def test_the_program_keeps_to_its_limit_and_blames_no_page(progressive: Path, tmp_path: Path) -> None:
    job = {"path": quote(str(progressive)), "page": 0, "limit_side": 640, "max_pixels": DEFAULT_MAX_PIXELS}
    line = json.dumps(job | {"out": str(tmp_path / "out.jpg")}) + "\n"
    answers = []
    for limit in (None, 1 << 20):
        said = io.StringIO()
        serve(io.StringIO(line), said, limit)
        answers.append(json.loads(said.getvalue()))
    assert answers[0]["ok"] and answers[0]["width"] == 3000
    assert not answers[1]["ok"] and answers[1]["type"] == "Internal" and "MemoryError" in answers[1]["error"]


def test_the_limit_is_that_of_the_settings() -> None:
    assert (
        memory_limit({"OCRFLEET_MEMORY_LIMIT_MB": "200"})
        == 200 << 20
        == memory_limit({"OCRFLEET_MEMORY_LIMIT_MB": "200.0", "OCRFLEET_PROFILE": ""})
    )
    assert memory_limit({"OCRFLEET_MEMORY_LIMIT_MB": "", "OCRFLEET_PROFILE": "low"}) == memory_limit(
        {"OCRFLEET_PROFILE": "low"}
    )
    assert memory_limit({"OCRFLEET_PROFILE": "low"}) is not None


def test_what_a_pdf_has_no_memory_for_is_left_to_the_workers(tmp_path: Path) -> None:
    """pdfium leaves it out of the page that it draws: sent, it would be a blank page."""
    path, out = tmp_path / "a.pdf", tmp_path / "out.jpg"
    path.write_bytes(document(picture(b"x" * 1000, b"/JPXDecode", side=3000)))
    with pytest.raises(MemoryError, match="24 MiB are free"):
        shrink(path, 0, out, limit_side=320, max_bytes=24 << 20)
    with pytest.raises(CorruptImage):
        shrink(path, 0, out, limit_side=320, max_bytes=1 << 30)


def test_a_damaged_page_says_its_share(tmp_path: Path) -> None:
    path, out = tmp_path / "a.pdf", tmp_path / "out.jpg"
    path.write_bytes(document(picture(b"junk", b"/DCTDecode"), b"q 100 0 0 100 30 30 cm /I Do Q"))
    answer = shrink(path, 0, out, limit_side=320)
    assert "damaged" in answer["flags"] and answer["share"] == pytest.approx(1 - 1 / 36, abs=0.005)


def test_jpeg_of_a_shrunk_page_is_the_page(tmp_path: Path) -> None:
    page, out = tmp_path / "page.png", tmp_path / "out.jpg"
    Image.new("RGB", (1000, 500), (200, 30, 60)).save(page)
    shrink(page, 0, out, limit_side=100)
    pixels = cv2.imread(str(out))
    assert pixels is not None and pixels.shape == (50, 100, 3)
    assert abs(pixels[25, 50].astype(int) - (60, 30, 200)).max() <= 3
