"""Every decoder with every damage: no page is "ok" without a flag while more than a tenth of its rows are missing."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from detector.errors import CorruptImage, ImageError
from detector.images import budget
from detector.images.decoders import jpeg as jpeg_decoder
from detector.images.decoders import remarked
from detector.images.page import Page, open_page, open_strips

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


@pytest.mark.slow
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


TOLD = ("progressive.jpg", "restart.jpg", "plain.avif", "jpeg.tif", "group3.tif", "one-strip.tif")


@pytest.mark.slow
@pytest.mark.parametrize("name", TOLD)
def test_what_a_decoder_remarks_on_is_flagged(name: str, tmp_path: Path) -> None:
    """Before: every row was there, garbled from somewhere on, and no flag (AVIF: 40 of 40 such files)."""
    path, sound = tmp_path / name, SOUND[name]()
    path.write_bytes(sound)
    whole = open_page(path, limit_side=WIDTH).pixels.astype(int)
    rng = np.random.default_rng(1)
    told = 0
    for _ in range(15):
        place = int(rng.integers(len(sound) // 5, len(sound) - FLIPPED_BYTES))
        flipped = bytes(rng.integers(0, 256, FLIPPED_BYTES, dtype=np.uint8))
        path.write_bytes(sound[:place] + flipped + sound[place + FLIPPED_BYTES :])
        try:
            page = open_page(path, limit_side=WIDTH)
        except ImageError:
            told += 1
            continue
        told += "damaged" in page.flags
        garbled = (np.abs(page.pixels - whole).max(axis=2) > 40).any(axis=1).mean()
        assert garbled <= 0.1 or "damaged" in page.flags, place
    assert told >= 10


def emptied(jpeg: bytes, kept: float) -> bytes:
    """A JPEG whose segments between restart markers are empty, but for the first ones."""
    start = jpeg.index(b"\xff\xda") + 2
    start += int.from_bytes(jpeg[start : start + 2], "big")
    parts = re.split(rb"(\xff[\xd0-\xd7])", jpeg[start:-2])
    count = len(parts) // 2 + 1
    parts[::2] = [part if number < kept * count else part[:3] for number, part in enumerate(parts[::2])]
    return jpeg[:start] + b"".join(parts) + jpeg[-2:]


@pytest.mark.parametrize("file_bytes", [4 * 2**20, 1])  # the whole of it in memory, or in pieces
def test_segments_without_data_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_bytes: int) -> None:
    """Before: `ok`, and a share of 1.0, with nothing but the markers left."""
    monkeypatch.setattr(jpeg_decoder, "_WHOLE_FILE_BYTES", file_bytes)
    sound = saved("JPEG", restart_marker_rows=1)
    for kept in (0.0, 0.1, 0.5, 0.8):
        (tmp_path / "a.jpg").write_bytes(emptied(sound, kept))
        with pytest.raises(CorruptImage, match=r"of its rows can be read"):
            open_page(tmp_path / "a.jpg", limit_side=WIDTH)
    (tmp_path / "a.jpg").write_bytes(emptied(sound, 0.92))
    page = open_page(tmp_path / "a.jpg", limit_side=WIDTH)
    assert "damaged" in page.flags and page.share is not None and 0.9 <= page.share < 0.97


@pytest.mark.slow
def test_a_remark_on_the_last_rows_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hole libjpeg often says only at the end that data are missing. Before: `ok`, garbled from the hole on."""
    buffer, path = io.BytesIO(), tmp_path / "a.jpg"
    picture().resize((WIDTH * 4, HEIGHT * 4)).save(buffer, "JPEG", quality=90)
    sound = buffer.getvalue()
    path.write_bytes(sound)
    assert open_page(path, limit_side=WIDTH).flags == ("downscaled",)
    monkeypatch.setattr(budget, "STRIPS_FROM_BYTES", 1)
    missed = [0, 0]
    for percent in range(10, 90, 8):
        place = len(sound) * percent // 100
        path.write_bytes(sound[:place] + b"\xf6" * 256 + sound[place + 256 :])
        with suppress(CorruptImage):
            missed[0] += "damaged" not in open_page(path, limit_side=WIDTH).flags
        with open_strips(path, limit_side=WIDTH) as page, suppress(CorruptImage):
            missed[1] += page is not None and len(page.strips.rows(0, HEIGHT)) > 0
    assert max(missed) <= 1  # of some it says nothing at all


def test_what_is_said_of_another_thread_s_picture_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libvips has one place for what decoders say, and a program may have a detector in each thread."""
    said = iter(["VipsJpeg: Corrupt JPEG data: premature end of data segment\n", ""])
    monkeypatch.setattr(remarked, "remarks", lambda: next(said))
    (tmp_path / "a.jpg").write_bytes(SOUND["baseline.jpg"]())
    assert open_page(tmp_path / "a.jpg", limit_side=WIDTH).flags == () and list(said) == []


@pytest.mark.skipif(not pyvips.type_find("VipsOperation", "uhdrsave_buffer"), reason="libvips before 8.18")
def test_a_jpeg_with_a_gain_map_is_as_any_other(tmp_path: Path) -> None:
    """What phones save as Ultra HDR. Before: `ok` without a flag, since libvips' loader of them keeps quiet."""
    pixels = pyvips.Image.new_from_memory(picture().tobytes(), WIDTH, HEIGHT, 3, "uchar")
    sound = (pixels.copy(interpretation="srgb").colourspace("scrgb") * 2).copy(interpretation="scrgb").uhdrsave_buffer()
    start, end = sound.index(b"\xff\xda"), sound.rindex(b"\xff\xd9", 0, sound.index(b"\xff\xd8", 2))
    (tmp_path / "a.jpg").write_bytes(sound)
    assert open_page(tmp_path / "a.jpg", limit_side=WIDTH).flags == ()
    begin = (start + end) // 2
    (tmp_path / "a.jpg").write_bytes(sound[:begin] + bytes(end - begin) + sound[end:])
    assert open_page(tmp_path / "a.jpg", limit_side=WIDTH).flags == ("damaged",)
    (tmp_path / "a.jpg").write_bytes(sound[:begin] + b"\xff" * (end - begin) + sound[end:])
    with pytest.raises(CorruptImage, match="of its rows can be read"):
        open_page(tmp_path / "a.jpg", limit_side=WIDTH)


def small_png(depth: int, colour: int, *, interlaced: bool, less: int) -> bytes:
    """13 x 9 zeros, whose data end properly so many bytes before the last row does."""
    bits, size = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour], 0
    adam7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    for left, top, across, down in adam7 if interlaced else ((0, 0, 1, 1),):
        columns = len(range(left, 13, across))
        size += sum(1 + (columns * bits + 7) // 8 for _ in range(top, 9, down) if columns)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 13, 9, depth, colour, 0, 0, interlaced))]
    chunks += [(b"PLTE", bytes(range(48)))] * (colour == 3)
    packed = zlib.compress(bytes(size - less))
    chunks += [(b"IDAT", packed[:5]), (b"IDAT", packed[5:]), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("depth", "colour"), [(1, 0), (2, 0), (16, 0), (8, 2), (4, 3), (8, 4), (16, 6)])
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_that_ends_before_its_last_row(tmp_path: Path, depth: int, colour: int, interlaced: bool) -> None:
    """Before: `ok`, black from there on, below 2 megapixels, where Pillow decodes."""
    path = tmp_path / "a.png"
    path.write_bytes(small_png(depth, colour, interlaced=interlaced, less=0))
    assert open_page(path, limit_side=WIDTH).flags == ()
    for less in (1, 15):
        path.write_bytes(small_png(depth, colour, interlaced=interlaced, less=less))
        with pytest.raises(CorruptImage, match=r"rows are missing|truncated"):
            open_page(path, limit_side=WIDTH)


def test_a_png_whose_check_sum_is_wrong(tmp_path: Path) -> None:
    """More comes out than its rows take; the last row is 0. Before: `zlib.error`, the end of `detect FOLDER`."""
    data, summed = small_png(8, 2, interlaced=False, less=-1000), zlib.compress(bytes(9 * 40 + 1000))[-4:]
    assert data.count(summed) == 1
    (tmp_path / "a.png").write_bytes(data.replace(summed, b"sums"))
    with pytest.raises(CorruptImage, match="rows are missing or wrong"):
        open_page(tmp_path / "a.png", limit_side=WIDTH)


def test_harmless_oddities_are_no_damage(tmp_path: Path) -> None:
    """Bytes too many before a JPEG's end marker, and a tag that nobody knows in a fax."""
    jpeg = SOUND["baseline.jpg"]()
    (tmp_path / "a.jpg").write_bytes(jpeg[:-2] + b"\0\0\0\0" + jpeg[-2:])
    (tmp_path / "a.tif").write_bytes(saved("TIFF", "1", compression="group3", tiffinfo={65000: "ours"}))
    for name in ("a.jpg", "a.tif"):
        assert "damaged" not in open_page(tmp_path / name, limit_side=WIDTH).flags


@pytest.mark.parametrize("compression", ["tiff_lzw", "zstd"])  # through libvips, and through Pillow
def test_associated_alpha_is_multiplied_once(compression: str, tmp_path: Path) -> None:
    """TIFF tag ExtraSamples: 2 is plain alpha, with 1 the colours are multiplied by it already."""
    colours = np.zeros((60, 80, 4), np.uint8)
    colours[...] = (200, 100, 40, 128)
    colours[20:40, 10:40] = (10, 10, 10, 255)
    seen = []
    for value, mode in ((2, "RGBA"), (1, "RGBa")):
        stored = Image.fromarray(colours).convert(mode)
        buffer = io.BytesIO()
        Image.frombytes("RGBA", stored.size, stored.tobytes()).save(buffer, "TIFF", compression=compression)
        tag = [struct.pack("<HHIHH", 338, 3, 1, kind, 0) for kind in (2, value)]
        assert buffer.getvalue().count(tag[0]) == 1
        (tmp_path / "a.tif").write_bytes(buffer.getvalue().replace(*tag))
        seen.append(open_page(tmp_path / "a.tif", limit_side=WIDTH).pixels.astype(int))
    assert np.abs(seen[0] - seen[1]).max() <= 2 and seen[0][0, 0].tolist() == [227, 177, 147]
