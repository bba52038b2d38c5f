"""A TIFF whose directory is sound, and whose data have a bad stretch: tiles left dark, rows garbled up to their end."""

from __future__ import annotations

import struct
import zlib
from contextlib import nullcontext, suppress
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import pyvips
from PIL import Image

from detector.errors import CorruptImage, UnsupportedFormat
from detector.images import budget
from detector.images.decoders import remarked, tiff_pieces
from detector.images.decoders.tiff_pieces import share_not_garbled
from detector.images.header import read_header
from detector.images.page import open_page, open_strips

WIDE, HIGH, TILE, TILES = 600, 800, 128, 35
ROWS, STRIPS, COUNTS, PLANAR, FILL_ORDER = 278, 273, 279, 284, 266


def text() -> np.ndarray:
    pixels = np.full((HIGH, WIDE), 255, np.uint8)
    for line in range(16):
        cv2.putText(pixels, f"INVOICE {line * 777} TOTAL", (20, 40 + 50 * line), cv2.FONT_HERSHEY_SIMPLEX, 1.3, 0, 3)
    return pixels


def in_tiles(compression: str, side: int = TILE) -> bytes:
    image = pyvips.Image.new_from_memory(text().tobytes(), WIDE, HIGH, 1, "uchar")
    data: bytes = image.tiffsave_buffer(tile=True, tile_width=side, tile_height=side, compression=compression)
    return data


def in_strips(rows: int, pixels: np.ndarray | None = None) -> bytes:
    buffer = BytesIO()
    image = Image.fromarray(text() if pixels is None else pixels)
    image.save(buffer, "TIFF", compression="tiff_adobe_deflate", tiffinfo={ROWS: rows}, strip_size=1 << 24)
    return buffer.getvalue()


def spoilt(data: bytes, begin: float, end: float) -> bytes:
    """Zeros over a part of the data, which lie before the directory."""
    (directory,) = struct.unpack_from("<I", data, 4)
    first, last = (8 + round(share * (directory - 8)) for share in (begin, end))
    return data[:first] + bytes(last - first) + data[last:]


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["lzw", "deflate", "jpeg"])
def test_tiles_that_cannot_be_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str) -> None:
    """Before: `ok` without a flag, with nothing of the page read."""
    monkeypatch.setattr(budget, "STRIPS_FROM_BYTES", 1_000_000)
    path, data = tmp_path / "a.tif", in_tiles(compression)
    path.write_bytes(data)
    assert open_page(path, limit_side=HIGH).flags == ()
    for begin, end in ((0.0, 1.0), (0.3, 0.8)):
        path.write_bytes(spoilt(data, begin, end))
        with pytest.raises(CorruptImage, match="rows can be read; tiles of it are spoilt"):
            open_page(path, limit_side=HIGH)
    path.write_bytes(spoilt(data, 0.5, 0.505))
    page = open_page(path, limit_side=HIGH)
    assert page.flags == ("damaged",) and page.share == pytest.approx(1 - 1.5 / TILES, abs=0.6 / TILES)
    with open_strips(path, limit_side=HIGH) as strips:
        if compression == "deflate":  # whose check sums are asked before
            assert strips is None
            return
        with pytest.raises(CorruptImage):
            assert strips is not None and strips.strips.rows(0, HIGH)


def test_small_tiles_are_asked_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a few MB has a million of them. Before: each was asked, also where far too many were spoilt already."""
    asked: list[tuple[int, ...]] = []
    real = remarked._is_sound
    monkeypatch.setattr(remarked, "_is_sound", lambda region, *of: asked.append(of[0]) or real(region, *of))
    data = in_tiles("lzw", 16)  # 38 a row, 50 rows
    for begin, end, most in ((0.0, 1.0, 6 * 4), (0.5, 0.501, 50 + 2 * 3)):
        asked.clear()
        (tmp_path / "a.tif").write_bytes(spoilt(data, begin, end))
        with nullcontext() if end < 1 else pytest.raises(CorruptImage):
            assert open_page(tmp_path / "a.tif", limit_side=HIGH).flags == ("damaged",)
        assert 0 < len(asked) <= most


def test_an_odd_directory_hides_no_tile(tmp_path: Path) -> None:
    """With a tag that nobody knows libtiff remarks on the directory already. Sound, the page has no flag."""
    data = in_tiles("lzw").replace(struct.pack("<HH", 305, 2), struct.pack("<HH", 65000, 2))
    for odd in (data, data.replace(struct.pack("<HHI", 282, 5, 1), struct.pack("<HHI", 65001, 5, 1))):
        (tmp_path / "a.tif").write_bytes(odd)
        assert open_page(tmp_path / "a.tif", limit_side=HIGH).flags == ()
        (tmp_path / "a.tif").write_bytes(spoilt(odd, 0.3, 0.8))
        with pytest.raises(CorruptImage, match="tiles of it are spoilt"):
            open_page(tmp_path / "a.tif", limit_side=HIGH)


FAR = 0x7FFF0000
ODD = {  # in the place of the resolution: tag, type, count, value
    "XMP behind the end": (700, 1, 5000, FAR),
    "a name behind the end": (305, 2, 500, FAR),
    "a private tag of no type": (65000, 0, 1, 0),
    "a private tag behind the end": (65000, 7, 5000, FAR),
}


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["lzw", "deflate", "packbits", "none", "jpeg"])
@pytest.mark.parametrize("odd", ODD)
def test_what_is_said_of_the_directory_is_no_damage_of_tiles(
    odd: str, compression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: libvips reads it anew before the first tile, which then counted as spoilt: sound pages were damaged, or
    `CorruptImage`. And in strips such a page was not read, but whole, which takes more memory."""
    monkeypatch.setattr(budget, "STRIPS_FROM_BYTES", 1_000_000)
    for side in (TILE, 512):
        data, path = in_tiles(compression, side), tmp_path / "a.tif"
        place = data.index(struct.pack("<HHI", 282, 5, 1))
        path.write_bytes(data[:place] + struct.pack("<HHII", *ODD[odd]) + data[place + 12 :])
        page = open_page(path, limit_side=HIGH)
        assert (page.flags, page.share) == ((), None)
        with open_strips(path, limit_side=HIGH) as strips:
            assert strips is not None and np.array_equal(strips.strips.rows(0, HIGH), page.pixels)
        if compression in ("lzw", "deflate"):
            path.write_bytes(spoilt(path.read_bytes(), 0.0, 0.8))
            with pytest.raises(CorruptImage, match="rows can be read"):
                open_page(path, limit_side=HIGH)
            with open_strips(path, limit_side=HIGH) as strips, pytest.raises(CorruptImage):
                assert strips is None or strips.strips.rows(0, HIGH) is None
                raise CorruptImage  # Deflate: its check sums are asked before


def with_entries(data: bytes, count: int, entry: bytes) -> bytes:
    """Private tags, the same but for their number, behind those that the directory has."""
    (place,) = struct.unpack_from("<I", data, 4)
    (there,) = struct.unpack_from("<H", data, place)
    private = b"".join(struct.pack("<H", 64000 + number) + entry for number in range(count))
    directory = struct.pack("<H", there + count) + data[place + 2 : place + 2 + 12 * there] + private + bytes(4)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory


MANY = {  # more than the 10 KB of remarks that libvips keeps
    "of no type": (45, struct.pack("<HII", 0, 1, 0)),
    "behind the end": (200, struct.pack("<HII", 7, 5000, FAR)),
}


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["lzw", "packbits", "jpeg"])
@pytest.mark.parametrize("side", [0, TILE, 1024])  # rows; tiles; one tile
@pytest.mark.parametrize("odd", MANY)
def test_remarks_on_the_directory_leave_room_for_those_on_the_data(
    odd: str, side: int, compression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: spoilt pages were `ok` without a flag, up to all of them dark; sound ones in tiles `CorruptImage`."""
    monkeypatch.setattr(budget, "STRIPS_FROM_BYTES", 1_000_000)
    image, path = pyvips.Image.new_from_memory(text().tobytes(), WIDE, HIGH, 1, "uchar"), tmp_path / "a.tif"
    data = in_tiles(compression, side) if side else image.tiffsave_buffer(compression=compression)
    many = with_entries(data, *MANY[odd])
    for plain, flagged in ((data, many), (spoilt(data, 0.0, 0.5), with_entries(spoilt(data, 0.0, 0.5), *MANY[odd]))):
        seen = []
        for file in (plain, flagged):
            path.write_bytes(file)
            with suppress(CorruptImage), open_strips(path, limit_side=HIGH) as strips:
                assert strips is None or plain is data or strips.strips.rows(0, HIGH) is None
            try:
                page = open_page(path, limit_side=HIGH)
                seen.append((page.flags, page.share, page.pixels.tobytes()))
            except CorruptImage as error:
                seen.append(((), 0.0, str(error).partition(" rows can be read")[1].encode()))
        assert seen[0] == seen[1] and (seen[0][1] is None) == (plain is data)


@pytest.mark.slow
def test_rows_that_are_garbled_up_to_their_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asked for the check sum. Before: `ok` without a flag, with up to half of the page garbled."""
    monkeypatch.setattr(budget, "STRIPS_FROM_BYTES", 1_000_000)
    grain = np.random.default_rng(1).integers(0, 60, (HIGH, WIDE), np.uint8)
    path, data = tmp_path / "a.tif", in_strips(HIGH, text() - grain)
    path.write_bytes(data)
    assert open_page(path, limit_side=HIGH).flags == ()
    with open_strips(path, limit_side=HIGH) as strips:
        assert strips is not None
    path.write_bytes(spoilt(data, 0.2, 0.2002))
    with pytest.raises(CorruptImage, match="0 % of its rows can be read; a check sum is wrong"):
        open_page(path, limit_side=HIGH)
    with open_strips(path, limit_side=HIGH) as strips:
        assert strips is None
    many = in_strips(HIGH // 20, text() - grain)
    path.write_bytes(spoilt(many, 0.22, 0.2202))
    assert open_page(path, limit_side=HIGH).share == pytest.approx(19 / 20)


def rewritten(strip: bytes, *, copies: int = 1, turned: bool = False, rows: int = HIGH) -> BytesIO:
    """A page of one strip with other data in it, at the end of the file, which the directory may name many times."""
    data = bytearray(in_strips(rows))
    (directory,) = struct.unpack_from("<I", data, 4)
    begin, values = len(data), {STRIPS: len(data), COUNTS: len(strip)}
    for entry in range(directory + 2, directory + 2 + 12 * struct.unpack_from("<H", data, directory)[0], 12):
        tag = struct.unpack_from("<H", data, entry)[0]
        if tag in values and copies == 1:
            struct.pack_into("<HII", data, entry + 2, 4, 1, values[tag])
        elif tag in values:
            struct.pack_into("<HII", data, entry + 2, 4, copies, begin + len(strip) + 4 * copies * (tag == COUNTS))
        elif tag == PLANAR and turned:
            struct.pack_into("<HHIHH", data, entry, FILL_ORDER, 3, 1, 2, 0)
    lists = struct.pack(f"<{copies}I", *[begin] * copies) + struct.pack(f"<{copies}I", *[len(strip)] * copies)
    return BytesIO(bytes(data) + strip + (lists if copies > 1 else b""))


@pytest.mark.slow
def test_what_writers_do_is_no_damage() -> None:
    """No check sum, no end, padding, and a strip that has more rows than the page."""
    rows, packer = text().tobytes(), zlib.compressobj()
    packed, flushed = zlib.compress(rows), packer.compress(rows) + packer.flush(zlib.Z_SYNC_FLUSH)
    long = zlib.compress(rows + bytes(WIDE * 20))
    for strip in (packed, packed[:-4], flushed, packed + bytes(99), long):
        file = rewritten(strip)
        assert share_not_garbled(file, read_header(file, "tiff", "a.tif")) == 1.0
    for strip in (packed[:-1] + b"\1", long[:-1] + b"\1", zlib.compress(rows * 20)):
        file = rewritten(strip)
        assert share_not_garbled(file, read_header(file, "tiff", "a.tif")) == 0.0


def test_bits_from_the_lowest_on() -> None:
    """FillOrder 2, as some scanners and `tiffcp -f lsb2msb` have it: libtiff turns them before it inflates."""
    packed = zlib.compress(text().tobytes())
    for strip, share in ((packed, 1.0), (packed[:-1] + b"\1", 0.0)):
        file = rewritten(bytes(int(f"{byte:08b}"[::-1], 2) for byte in strip), turned=True)
        assert share_not_garbled(file, read_header(file, "tiff", "a.tif")) == share


def test_strips_that_the_page_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory may name one strip a million times. Only the page's own are inflated, and no more than 1 GiB."""
    asked: list[int] = []
    garbled = tiff_pieces._is_garbled
    monkeypatch.setattr(tiff_pieces, "_is_garbled", lambda *piece: asked.append(piece[1]) or garbled(*piece))
    file = rewritten(zlib.compress(text().tobytes())[:-1] + b"\1", copies=5000)
    assert share_not_garbled(file, read_header(file, "tiff", "a.tif")) == 0.0 and len(asked) == 1
    monkeypatch.setattr(tiff_pieces, "_MOST_INFLATED", WIDE * HIGH - 1)
    assert share_not_garbled(file, read_header(file, "tiff", "a.tif")) == 1.0 and len(asked) == 1


def test_strips_that_lie_over_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is read than the file has. Before: 100 strips in one place, 30 MB behind their rows, 6 s."""
    asked: list[int] = []
    garbled = tiff_pieces._is_garbled
    monkeypatch.setattr(tiff_pieces, "_is_garbled", lambda *piece: asked.append(piece[1]) or garbled(*piece))
    packer = zlib.compressobj()
    strip = packer.compress(bytes(20 * WIDE)) + packer.flush(zlib.Z_FULL_FLUSH) + b"\0\0\0\xff\xff" * 40_000
    file = rewritten(strip, copies=HIGH // 20, rows=20)
    assert share_not_garbled(file, read_header(file, "tiff", "a.tif")) == 1.0 and len(asked) == 1


@pytest.mark.parametrize("compression", [34712, 34933])  # JPEG 2000, PNG: tifffile writes them
def test_tiles_of_a_kind_that_libtiff_lacks_are_not_spoilt(tmp_path: Path, compression: int) -> None:
    data = in_tiles("lzw").replace(
        struct.pack("<HHIHH", 259, 3, 1, 5, 0), struct.pack("<HHIHH", 259, 3, 1, compression, 0)
    )
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UnsupportedFormat, match=f"{compression} tile decoding is not implemented"):
        open_page(tmp_path / "a.tif", limit_side=HIGH)
