"""A PDF's picture that the page does not show, for what lies over it or for its layer, is no loss, sound or damaged."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.errors import CorruptImage
from detector.images.decoders import pdf_pictures
from tests.detector.images.test_pdf_pictures import DAMAGED, SIDE, jpeg, opened, picture, stream
from tests.producer.sources.test_page_bounds import written_pdf

pytestmark = pytest.mark.slow

LINES = b"q 400 0 0 150 100 440 cm /S Do Q "
PHOTO = b"q 500 0 0 400 50 20 cm /I Do Q "
HOW = {
    "under black": PHOTO + b"0 g 50 20 500 400 re f",
    "under white": PHOTO + b"1 g 40 10 520 420 re f",
    "clipped": b"q 0 0 5 5 re W n " + PHOTO + b"Q",
    "faint": b"/Faint gs " + PHOTO,
    "multiplied with black": b"0 g 50 20 500 400 re f /Times gs " + PHOTO,
    "in a layer that is off": b"/OC /Off BDC " + PHOTO + b"EMC",
    "of a layer that is off": PHOTO.replace(b"/I", b"/J"),
    "in a form in a layer": b"/OC /Off BDC q 500 0 0 400 50 20 cm /Form Do Q EMC",
    "in a form without a place": b"/Nowhere Do",
    "in a form under white": b"q 500 0 0 400 50 20 cm /Form Do Q 1 g 40 10 520 420 re f",
}
SHOWN = {
    "plain": PHOTO,
    "in a form": b"q 500 0 0 400 50 20 cm /Form Do Q",
    "in a layer that is on": b"/OC /On BDC " + PHOTO + b"EMC",
    "at half its strength": b"/Half gs " + PHOTO,
    "half under white": PHOTO + b"1 g 40 10 260 420 re f",
}


def photo() -> np.ndarray:
    """(H, W) uint8: even nowhere."""
    across, down = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    return (127 + 60 * np.sin(across / 37) + 60 * np.cos(down / 23)).astype(np.uint8)


def page_of(contents: bytes, shown: bytes, of_layer: bytes | None = None) -> bytes:
    """Lines of text that are a picture, and what the contents draw of a picture /I, or /J in the layer that is off."""
    form = b"/Type/XObject/Subtype/Form/Resources<</XObject<</I 5 0 R>>>>"
    states = b"/ExtGState<</Faint<</ca .004>>/Half<</ca .5>>/Times<</BM/Multiply>>>>"
    drawn = b"/XObject<</I 5 0 R/J 6 0 R/S 7 0 R/Form 8 0 R/Nowhere 9 0 R>>/Properties<</Off 10 0 R/On 11 0 R>>"
    lines = np.kron(np.random.default_rng(0).integers(0, 2, (80, 80), np.uint8) * 255, np.ones((10, 10), np.uint8))
    return written_pdf(
        b"<</Type/Catalog/Pages 2 0 R/OCProperties<</OCGs[10 0 R 11 0 R]/D<</OFF[10 0 R]>>>>>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 600]/Contents 4 0 R/Resources<<%s%s>>>>" % (drawn, states),
        stream(LINES + contents),
        shown,
        of_layer or shown,
        picture(jpeg(lines), b"/DCTDecode"),
        stream(b"/I Do", form + b"/BBox[0 0 1 1]"),
        stream(PHOTO, form + b"/BBox[0 0 0 0]"),
        b"<</Type/OCG/Name(off)>>",
        b"<</Type/OCG/Name(on)>>",
    )


def grey_with(entry: bytes) -> bytes:
    return b"/ColorSpace/DeviceGray/BitsPerComponent 8" + entry


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", ["sound", "flate cut off", "unknown filter"])
def test_what_is_not_seen(tmp_path: Path, how: str, kind: str) -> None:
    shown = picture(jpeg(photo()), b"/DCTDecode") if kind == "sound" else DAMAGED[kind]
    of_layer = shown.replace(b"/Type", b"/OC 10 0 R/Type", 1)
    page = opened(tmp_path, page_of(HOW[how], shown, of_layer))
    assert "damaged" not in page.flags and page.share is None


@pytest.mark.parametrize("how", SHOWN)
def test_what_is_seen(tmp_path: Path, how: str) -> None:
    sound = opened(tmp_path, page_of(SHOWN[how], picture(jpeg(photo()), b"/DCTDecode")))
    assert sound.share is None
    for kind in ("no JPEG", "unknown filter"):
        with pytest.raises(CorruptImage, match="is damaged"):
            opened(tmp_path, page_of(SHOWN[how], DAMAGED[kind]))


def test_the_part_that_is_seen_counts(tmp_path: Path) -> None:
    """A fifth of the page is a picture that is damaged, and half of that lies under white."""
    text = b"BT /F 30 Tf 40 400 Td (TOTAL 777) Tj ET "
    contents = b"q 300 0 0 240 0 0 cm /I Do Q " + text + b"1 g 0 0 150 240 re f"
    assert opened(tmp_path, page_of(contents, DAMAGED["no JPEG"])).share == pytest.approx(0.9, abs=0.005)


def test_a_mask_whose_part_lies_under_something(tmp_path: Path) -> None:
    """The place is even, the JPEG is not, and pdfium unpacks it."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[100:300, 100:300] = 255
    masked = picture(jpeg(photo()), b"/DCTDecode", grey_with(b"/SMask 6 0 R"))
    contents = PHOTO + b"1 g 100 200 200 200 re f"
    page = page_of(contents, masked, picture(zlib.compress(mask.tobytes()), b"/FlateDecode"))
    assert opened(tmp_path, page).share is None


def test_tiles_of_a_pixel(tmp_path: Path) -> None:
    """Each place is even, for it is a pixel."""
    tiles = b"".join(b"q 1 0 0 1 %d %d cm /I Do Q " % (x, y) for x in range(100, 108) for y in range(100, 105))
    small = np.asarray(Image.fromarray(photo()).resize((64, 64)))
    assert opened(tmp_path, page_of(tiles, picture(jpeg(small), b"/DCTDecode", side=64))).share is None


@pytest.mark.parametrize("how", ["clipped", "under black", "under white", "in a layer that is off"])
def test_what_is_not_seen_needs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(pdf_pictures, "_held_bytes", lambda data, name: 300 << 20)
    page = opened(tmp_path, page_of(HOW[how], picture(jpeg(photo(), progressive=True), b"/DCTDecode")))
    assert page.share is None
