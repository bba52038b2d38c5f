"""Every decoder with every damage: no page is "ok" without a flag while more than a tenth of its rows are missing."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.errors import ImageError
from detector.images.page import Page, open_page

WIDTH, HEIGHT = 400, 300
FLIPPED_BYTES, FLIPPED_PLACES = 64, 20


def picture() -> Image.Image:
    """Squares with grain: no row of it is of one colour."""
    rng = np.random.default_rng(0)
    squares = np.kron(rng.integers(0, 2, (HEIGHT // 10, WIDTH // 10)), np.ones((10, 10))) * 200 + 30
    grain = rng.integers(-20, 21, (HEIGHT, WIDTH))
    return Image.fromarray(np.clip(squares + grain, 0, 255).astype(np.uint8)).convert("RGB")


def saved(kind: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture().convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


SOUND = {
    "baseline.jpg": lambda: saved("JPEG"),
    "progressive.jpg": lambda: saved("JPEG", progressive=True),
    "restart.jpg": lambda: saved("JPEG", restart_marker_rows=2),
    "grey.jpg": lambda: saved("JPEG", "L"),
    "cmyk.jpg": lambda: saved("JPEG", "CMYK"),
    "plain.png": lambda: saved("PNG"),
    "plain.gif": lambda: saved("GIF", "P"),
    "lossy.webp": lambda: saved("WEBP"),
    "lossless.webp": lambda: saved("WEBP", lossless=True),
    "layers.jp2": lambda: saved("JPEG2000", quality_mode="rates", quality_layers=[20, 5]),
    "tiles.jp2": lambda: saved("JPEG2000", tile_size=(128, 128)),
    "plain.avif": lambda: saved("AVIF", speed=10),
    "plain.bmp": lambda: saved("BMP"),
    "plain.dib": lambda: saved("DIB"),
    "plain.ppm": lambda: saved("PPM"),
    "plain.tga": lambda: saved("TGA"),
    "packed.tga": lambda: saved("TGA", compression="tga_rle"),
    "plain.pcx": lambda: saved("PCX"),
    "raw.tif": lambda: saved("TIFF"),
    "lzw.tif": lambda: saved("TIFF", compression="tiff_lzw"),
    "deflate.tif": lambda: saved("TIFF", compression="tiff_adobe_deflate"),
    "one-strip.tif": lambda: saved("TIFF", compression="tiff_adobe_deflate", tiffinfo={278: HEIGHT}),
    "jpeg.tif": lambda: saved("TIFF", compression="jpeg"),
    "packbits.tif": lambda: saved("TIFF", compression="packbits"),
    "zstd.tif": lambda: saved("TIFF", compression="zstd"),
    "lzma.tif": lambda: saved("TIFF", compression="lzma"),
    "group3.tif": lambda: saved("TIFF", "1", compression="group3"),
    "group4.tif": lambda: saved("TIFF", "1", compression="group4"),
}


def damages(sound: bytes, seed: int) -> Iterator[tuple[str, bytes]]:
    """The header only; cut after 10, 50, 90 and 99 %; 64 random bytes in each of 20 places."""
    yield "header", sound[:200]
    for percent in (10, 50, 90, 99):
        yield f"cut {percent}", sound[: len(sound) * percent // 100]
    rng = np.random.default_rng(seed)
    for _ in range(FLIPPED_PLACES):
        place = int(rng.integers(max(1, len(sound) - FLIPPED_BYTES)))
        flipped = bytes(rng.integers(0, 256, FLIPPED_BYTES, dtype=np.uint8))
        yield f"flipped at {place}", sound[:place] + flipped + sound[place + FLIPPED_BYTES :]


def missing(page: Page) -> float:
    """The share of rows that are of one colour from edge to edge; in `picture` none is.

    White and black rows are not counted: spoilt data decode to whatever, and soon to the end of the scale.
    """
    low, high = page.pixels.min(axis=(1, 2)).astype(int), page.pixels.max(axis=(1, 2)).astype(int)
    return float(((high - low <= 4) & (low > 4) & (high < 251)).mean())


@pytest.mark.parametrize("name", SOUND)
def test_what_is_missing_is_never_ok(name: str, tmp_path: Path) -> None:
    path, sound = tmp_path / name, SOUND[name]()
    path.write_bytes(sound)
    whole = open_page(path, limit_side=WIDTH)
    assert missing(whole) == 0 and whole.share is None and "damaged" not in whole.flags
    refused = 0
    for damage, data in damages(sound, zlib.crc32(name.encode())):
        path.write_bytes(data)
        try:
            page = open_page(path, limit_side=WIDTH, max_pixels=2_000_000)
        except ImageError as error:
            assert "\n" not in str(error), damage
            refused += 1
            continue
        assert missing(page) <= 0.1 + 16 / HEIGHT, damage  # with more it is corrupt; half a row of blocks may hide
        if missing(page) > 0.1:
            assert "damaged" in page.flags, damage
        assert ("damaged" in page.flags) == (page.share is not None), damage
        if page.share is not None:
            assert 0.9 <= page.share <= 1.0, damage
    assert refused >= 3, "the header alone, and a tenth and a half of the file, are no page"
