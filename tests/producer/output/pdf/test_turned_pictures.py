"""Searchable PDFs of pictures: upright, the text on the words, whatever the orientation, the frame, or the samples."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pikepdf
import pypdfium2
import pytest
from PIL import Image, ImageDraw

from producer.output.searchable_pdf import PageNotInPdfError, write_pdf
from tests.document_checks import overlap, pdf_words, qpdf_problems
from tests.producer.output.pdf.places import ink, place_of, read

SIZE, BAR = (400, 300), (40, 30, 160, 60)
SHARES = (BAR[0] / SIZE[0], BAR[1] / SIZE[1], BAR[2] / SIZE[0], BAR[3] / SIZE[1])
ORIENTATION = 274
STORED = {  # what makes the upright picture one of that orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("L", {"format": "JPEG", "quality": 90}),
    "png": ("P", {"format": "PNG"}),
    "webp": ("RGB", {"format": "WEBP"}),
    "tiff": ("RGB", {"format": "TIFF", "compression": "tiff_deflate"}),
    "fax": ("1", {"format": "TIFF", "compression": "group4"}),
}


def upright(bar: Sequence[int] = BAR, size: tuple[int, int] = SIZE) -> Image.Image:
    """A white picture with a black bar where the word is."""
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).rectangle((bar[0], bar[1], bar[2] - 1, bar[3] - 1), fill="black")
    return picture


def stored(orientation: int, mode: str) -> Image.Image:
    picture = upright().convert(mode)
    return picture.transpose(STORED[orientation]) if orientation in STORED else picture


def as_file(orientation: int, kind: str) -> bytes:
    mode, options = KINDS[kind]
    tag: dict[str, Any] = {"tiffinfo": {ORIENTATION: orientation}}
    if options["format"] != "TIFF":
        tag = {"exif": Image.Exif()}
        tag["exif"][ORIENTATION] = orientation
    content = io.BytesIO()
    stored(orientation, mode).save(content, **options, **tag)
    return content.getvalue()


def made(folder: Path, content: bytes, words: Sequence[str] = ("Word",)) -> Path:
    """The searchable PDF of a file whose pages all look like `upright`."""
    (folder / "source").write_bytes(content)
    write_pdf(folder / "source", [read(word, page, SIZE, BAR) for page, word in enumerate(words)], folder / "made.pdf")
    return folder / "made.pdf"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_text_lies_on_the_ink(tmp_path: Path, kind: str, orientation: int) -> None:
    """Before: mirrored JPEG, PNG and WebP, and turned TIFFs, had their text elsewhere; turned fax was no picture."""
    page = pypdfium2.PdfDocument(made(tmp_path, as_file(orientation, kind)))[0]
    assert page.get_width() / page.get_height() == pytest.approx(SIZE[0] / SIZE[1])
    assert ink(page) == pytest.approx(SHARES, abs=0.006)
    assert place_of(page, "Word") == pytest.approx(SHARES, abs=0.006)


@pytest.mark.parametrize("kind", ["jpeg", "fax"])
def test_turned_data_are_copied(tmp_path: Path, kind: str) -> None:
    content = as_file(5, kind)
    with pikepdf.open(made(tmp_path, content)) as pdf:
        (picture,) = pdf.pages[0].get_images().values()
        copied = picture.read_raw_bytes()
    assert copied == content if kind == "jpeg" else copied in content


def test_every_frame_has_its_own_orientation(tmp_path: Path) -> None:
    frames = []
    for orientation in range(1, 9):
        for kind in ("tiff", "fax"):
            mode, options = KINDS[kind]
            frame = stored(orientation, mode)
            frame.encoderinfo = {
                "compression": options["compression"],
                "tiffinfo": {ORIENTATION: orientation},
            }
            frames.append(frame)
    content = io.BytesIO()
    frames[0].save(content, "TIFF", save_all=True, append_images=frames[1:], **frames[0].encoderinfo)
    words = [f"Word{number}" for number in range(16)]
    pdf = made(tmp_path, content.getvalue(), words)
    document = pypdfium2.PdfDocument(pdf)
    assert len(document) == 16
    for page, word in zip(document, words, strict=True):
        assert ink(page) == pytest.approx(SHARES, abs=0.006)
        assert place_of(page, word) == pytest.approx(SHARES, abs=0.006)
    found = list(pdf_words(pdf))
    assert [[word.text for word in page] for page in found] == [[word] for word in words]
    assert min(overlap(page[0], *SHARES) for page in found) > 0.95
    assert qpdf_problems(pdf) == ""


def test_thumbnails_are_no_pages(tmp_path: Path) -> None:
    """Before: the text of the second page lay on the first one's thumbnail."""
    frames = [upright(), upright().resize((80, 60)), upright()]
    for frame, reduced in zip(frames, (0, 1, 0), strict=True):
        frame.encoderinfo = {"tiffinfo": {254: reduced}}
    content = io.BytesIO()
    frames[0].save(content, "TIFF", save_all=True, append_images=frames[1:], tiffinfo={254: 0})
    document = pypdfium2.PdfDocument(made(tmp_path, content.getvalue(), ("One", "Two")))
    assert len(document) == 2
    for page, word in zip(document, ("One", "Two"), strict=True):
        assert page.get_width() == 300
        assert place_of(page, word) == pytest.approx(SHARES, abs=0.006)


def deep(kind: str) -> bytes:
    """The picture as a TIFF that PDF has no data for."""
    grey = np.asarray(upright().convert("L"))
    content = io.BytesIO()
    if kind == "lab":
        Image.frombytes("LAB", SIZE, np.dstack([grey, *[np.zeros_like(grey)] * 2]).tobytes()).save(content, "TIFF")
    else:
        samples = grey.astype(np.uint16) * 257 if kind == "16 bits" else grey.astype(np.float32) / 255
        Image.fromarray(samples).save(content, "TIFF")
    return content.getvalue()


@pytest.mark.parametrize("kind", ["16 bits", "float", "lab"])
def test_what_pdf_has_no_data_for_is_drawn(tmp_path: Path, kind: str) -> None:
    """Before: left out."""
    page = pypdfium2.PdfDocument(made(tmp_path, deep(kind)))[0]
    assert ink(page) == pytest.approx(SHARES, abs=0.006)
    assert place_of(page, "Word") == pytest.approx(SHARES, abs=0.006)


@pytest.mark.parametrize(
    ("size", "dpi", "points"),
    [
        ((60_000, 20), 96, (14_400, 4.8)),
        ((20, 60_000), 96, (4.8, 14_400)),
        ((64_000, 2), 96, (14_400, 3)),
        (SIZE, 60_000, (4, 3)),
        ((30, 20), 10**9, (4.5, 3)),
    ],
)
def test_very_long_and_very_fine_pictures(
    tmp_path: Path, size: tuple[int, int], dpi: int, points: tuple[float, float]
) -> None:
    """Before: pages of more than 14,400 points, or of less than 3, which readers refuse."""
    source = tmp_path / "a.tif"
    Image.new("1", size, 1).save(source, dpi=(dpi, dpi))
    word = (0, 0, size[0] // 2, min(size[1], size[0] // 4))
    write_pdf(source, [read("Word", 0, size, word)], tmp_path / "made.pdf")
    page = pypdfium2.PdfDocument(tmp_path / "made.pdf")[0]
    assert page.get_size() == pytest.approx(points, rel=0.001)
    assert place_of(page, "Word") == pytest.approx((0, 0, 0.5, word[3] / size[1]), abs=0.02)


def test_another_picture_than_the_one_that_was_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(as_file(6, "jpeg"))
    lying = read("Word", 0, (SIZE[1], SIZE[0]), BAR)
    with pytest.raises(PageNotInPdfError, match="page 1 is 400x300 pixels, the one that was read had 300x400"):
        write_pdf(tmp_path / "source", [lying], tmp_path / "made.pdf")
    with pytest.raises(PageNotInPdfError, match="page 2 that was read is none of the PDF's 1"):
        write_pdf(tmp_path / "source", [read("Word", 1, SIZE, BAR)], tmp_path / "made.pdf")
