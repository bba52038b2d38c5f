"""Numbers that no page has (infinity, NaN, 0, 64 bits) are damage of that page, or nothing; never a traceback."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.errors import CorruptImage, ImageError
from detector.images.page import open_page, page_header
from tests.detector.images.test_heic_holes import heic
from tests.detector.images.test_odd_tiffs import changed, written
from tests.detector.images.test_pdf_text import LOST, document, lines

pytestmark = pytest.mark.slow

VAST = b"3" + b"0" * 38 + b".0"
"""The largest that pdfium's numbers of 32 bits hold; times ten it is infinite."""


@pytest.mark.parametrize("side", [b"3" + b"0" * zeros + b".0" for zeros in (9, 12, 38, 39)])
def test_a_pdfs_page_of_any_size_it_says_is_damage(side: bytes, tmp_path: Path) -> None:
    """Before: a traceback where it is infinite; from 10 digits on a record that nobody takes, made three times."""
    (tmp_path / "a.pdf").write_bytes(document(b"").replace(b"[0 0 600 600]", b"[0 0 600 " + side + b"]"))
    for opener in (page_header, lambda path: open_page(path, limit_side=640)):
        with pytest.raises(CorruptImage, match="too large"):
            opener(tmp_path / "a.pdf")


@pytest.mark.parametrize("scale", [b"0 Tz ", b"0.0000001 Tz ", VAST + b" Tz ", b"1 Tz "])
@pytest.mark.parametrize(
    "matrix",
    [
        *(b"0 0 0 0 0 0", b"1 0 0 1 40 300", b"12 12 12 12 1 1", b"1 0 0 1 -%s 0" % VAST, b"%s 0 0 1 0 0" % VAST),
        *(b"0 %s 12 0 0 12" % VAST, b"1 0 12 -%s 12 0" % VAST, b"%s 12 -%s 12 12 0" % (VAST, VAST)),
    ],
)
@pytest.mark.parametrize("seen", [b"", lines(1)], ids=["", "with text"])
def test_text_anywhere_is_a_share_of_the_page_or_none(seen: bytes, matrix: bytes, scale: bytes, tmp_path: Path) -> None:
    """Before: a share of NaN, which is no JSON, or a division by 0."""
    text = b"q BT /F 30 Tf " + scale + matrix + b" Tm " + LOST + b"ET Q "
    (tmp_path / "a.pdf").write_bytes(document(text + seen))
    try:
        share = open_page(tmp_path / "a.pdf", limit_side=640).share
    except ImageError:
        return
    assert share is None or (math.isfinite(share) and 0 <= share <= 1)


@pytest.mark.parametrize("kind", [4, 16])
def test_a_tiffs_samples_may_mean_any_number(kind: int) -> None:
    """Before: struct.error, where it has more than 16 bits."""
    for compression in ("group4", "jpeg"):
        data = changed(written(compression), lambda tags: tags.update({262: (kind, 1, b"\xff" * {4: 4, 16: 8}[kind])}))
        with pytest.raises(ImageError):
            open_page(data, limit_side=640)


def test_a_heic_without_sides_or_picture_is_damage(tmp_path: Path) -> None:
    """Before: a division by 0, and an IndexError of the library."""
    data = heic(Image.fromarray(np.zeros((64, 64, 3), np.uint8)))
    (tmp_path / "a.heic").write_bytes(data.replace(b"ispe", b"i\x10pe"))
    with pytest.raises(CorruptImage, match="0x0 pixels"):
        open_page(tmp_path / "a.heic", limit_side=640)
    place = data.index(b"ipma") + 15  # the number of its picture's first property, of which there are four
    (tmp_path / "a.heic").write_bytes(data[:place] + b"\x0f" + data[place + 1 :])
    with pytest.raises(CorruptImage, match="list index out of range"):
        open_page(tmp_path / "a.heic", limit_side=640)
