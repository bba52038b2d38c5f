"""A TIFF that names no data for some of its tiles or strips: a writer that was cut off before it filled them in."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import pyvips
from PIL import Image, TiffImagePlugin

from detector.errors import CorruptImage
from detector.images.decoders.tiff_pieces import missing_data
from detector.images.header import read_header
from detector.images.page import Page, open_page

STRIPS, COUNTS, TILES, TILE_COUNTS = 273, 279, 324, 325
PIECES = 12


def written(compression: str, *, tiled: bool) -> bytearray:
    """700 x 900 of text in 12 tiles of 256 x 256, or in 12 strips of 75 rows."""
    pixels = np.full((900, 700), 255, np.uint8)
    for line in range(8):
        cv2.putText(pixels, f"INVOICE {line * 777} TOTAL", (40, 90 + 100 * line), cv2.FONT_HERSHEY_SIMPLEX, 1.6, 0, 3)
    if tiled:
        image = pyvips.Image.new_from_memory(pixels.tobytes(), 700, 900, 1, "uchar")
        return bytearray(image.tiffsave_buffer(tile=True, tile_width=256, tile_height=256, compression=compression))
    buffer = BytesIO()
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[278] = 75
    name = {"none": None, "deflate": "tiff_adobe_deflate", "lzw": "tiff_lzw"}[compression]
    Image.fromarray(pixels).save(buffer, "TIFF", compression=name, tiffinfo=info, strip_size=700 * 75)
    return bytearray(buffer.getvalue())


def without(data: bytearray, pieces: range, tags: tuple[int, ...] = (STRIPS, COUNTS, TILES, TILE_COUNTS)) -> bytes:
    """The same, with nothing for these pieces."""
    order = "<" if data[:2] == b"II" else ">"
    (place,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, place)
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        tag, kind, values, at = struct.unpack_from(order + "HHII", data, entry)
        if tag in tags:
            assert values == PIECES
            for piece in pieces:
                size = {3: 2, 4: 4}[kind]
                data[at + size * piece : at + size * (piece + 1)] = bytes(size)
    return bytes(data)


def opened(tmp_path: Path, data: bytes) -> Page:
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    return open_page(path, 0, limit_side=960)


KINDS = [("none", True), ("deflate", True), ("lzw", True), ("jpeg", True), ("none", False), ("deflate", False)]


@pytest.mark.parametrize(("compression", "tiled"), KINDS)
def test_share(tmp_path: Path, compression: str, tiled: bool) -> None:
    whole = written(compression, tiled=tiled)
    assert opened(tmp_path, bytes(whole)).share is None
    for missing in (12, 9, 2):
        with pytest.raises(CorruptImage, match=f"{(PIECES - missing) * 100 // PIECES} % of its rows"):
            opened(tmp_path, without(whole.copy(), range(PIECES - missing, PIECES)))


@pytest.mark.parametrize(("compression", "tiled"), [("none", True), ("deflate", True), ("lzw", True)])
def test_one_tile_of_many(tmp_path: Path, compression: str, tiled: bool) -> None:
    """The page counts as damaged, and the rest is there: no row is whitened for a tile in its middle. (JPEG fails.)"""
    whole = written(compression, tiled=tiled)
    page = opened(tmp_path, without(whole.copy(), range(4, 5)))
    assert page.share == pytest.approx(11 / 12)
    there = opened(tmp_path, bytes(whole)).pixels
    assert np.array_equal(page.pixels[600:], there[600:])


@pytest.mark.parametrize("compression", ["none", "deflate"])
@pytest.mark.parametrize("tags", [(TILES,), (TILE_COUNTS,)])
def test_either_says_it(compression: str, tags: tuple[int, ...]) -> None:
    """But for rows that are not packed: how many bytes they are is known, and some writers do not say it."""
    file = BytesIO(without(written(compression, tiled=True), range(3, PIECES), tags))
    page = read_header(file, "tiff", "a.tif")
    unsaid = compression == "none" and tags == (TILE_COUNTS,)
    assert missing_data(file, page).absent == pytest.approx(0.0 if unsaid else 0.75)


def test_rows_that_are_not_counted_are_drawn(tmp_path: Path) -> None:
    whole = written("none", tiled=False)
    there = opened(tmp_path, bytes(whole)).pixels
    page = opened(tmp_path, without(whole.copy(), range(PIECES), (COUNTS,)))
    assert np.array_equal(page.pixels, there)
