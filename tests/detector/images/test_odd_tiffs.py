"""TIFFs from the wild: sound ones with odd directories are "ok" without a flag, and what is missing is still missed."""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.errors import CorruptImage, UnsupportedFormat
from detector.images.page import Page, count_pages, open_page
from tests.raw_tiff import Picture, raw_tiff

pytestmark = pytest.mark.slow

COMPRESSION, PHOTOMETRIC, STRIPS, ROWS, COUNTS, OWN = 259, 262, 273, 278, 279, 65000
Tags = dict[int, tuple[int, int, bytes]]


def written(compression: str | None = "group4", *, rows: int = 900, colour: bool = False) -> bytes:
    pixels = np.full((900, 700), 255, np.uint8)
    for line in range(8):
        cv2.putText(pixels, f"INVOICE {line * 777} TOTAL", (40, 90 + 100 * line), cv2.FONT_HERSHEY_SIMPLEX, 1.6, 0, 3)
    image = Image.fromarray(pixels)
    image = image.convert("RGB") if colour else image.convert("1" if compression == "group4" else "L")
    buffer = BytesIO()
    image.save(buffer, "TIFF", compression=compression, tiffinfo={ROWS: rows}, strip_size=1 << 24)
    return buffer.getvalue()


def changed(data: bytes, change: Callable[[Tags], object], *, turned: bool = False) -> bytes:
    """The same little-endian TIFF with another directory, at its beginning so that its data lie at its end."""
    (place,) = struct.unpack_from("<I", data, 4)
    tags: Tags = {}
    for entry in range(struct.unpack_from("<H", data, place)[0]):
        tag, kind, count, field = struct.unpack_from("<HHI4s", data, place + 2 + 12 * entry)
        size = {2: 1, 3: 2, 4: 4, 5: 8}.get(kind, 1) * count
        at = struct.unpack("<I", field)[0]
        tags[tag] = kind, count, field if size <= 4 else data[at : at + size]
    begin, size = (int.from_bytes(tags[tag][2], "little") for tag in (STRIPS, COUNTS))
    change(tags)
    outside = 8 + 2 + 12 * len(tags) + 4
    tags[STRIPS] = 4, 1, struct.pack("<I", outside + sum(len(field) for _, _, field in tags.values() if len(field) > 4))
    entries, values = [], b""
    for tag, (kind, count, field) in tags.items():
        own = field if len(field) <= 4 else struct.pack("<I", outside + len(values))
        values += field if len(field) > 4 else b""
        entries.append(struct.pack("<HHI4s", tag, kind, count, own))
    head = data[:4] + struct.pack("<IH", 8, len(entries)) + b"".join(entries[::-1] if turned else entries)
    return head + bytes(4) + values + data[begin : begin + size]


def count_of(bytes_said: int) -> Callable[[Tags], object]:
    return lambda tags: tags.update({COUNTS: (4, 1, struct.pack("<I", bytes_said))})


def without(tag: int) -> Callable[[Tags], object]:
    return lambda tags: tags.pop(tag)


def own_tag(tags: Tags) -> None:
    tags[297] = 3, 1, bytes(4)  # PageNumber, which should have two values
    tags[OWN] = 4, 1, bytes(4)


def opened(tmp_path: Path, data: bytes) -> Page:
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    return open_page(path, limit_side=960)


SOUND: dict[str, tuple[str | None, bool, Callable[[Tags], object], bool]] = {
    "raw, count too large": (None, False, count_of(2_000_000), False),
    "colour, count too large": (None, True, count_of(1 << 31), False),
    "fax, count too large": ("group4", False, count_of(1_000_000), False),
    "fax, count 0": ("group4", False, count_of(0), False),
    "fax, no count": ("group4", False, without(COUNTS), False),
    "fax, tags of its own": ("group4", False, own_tag, False),
    "fax, tags not sorted": ("group4", False, lambda _: None, True),
    "PackBits, count too large": ("packbits", False, count_of(1_000_000), False),
    "PackBits, tags not sorted": ("packbits", False, lambda _: None, True),
    "JPEG, tags of its own": ("jpeg", False, own_tag, False),
    "raw, no meaning": (None, False, without(PHOTOMETRIC), False),
    "colour, no meaning": (None, True, without(PHOTOMETRIC), False),
    "LZW, no meaning": ("tiff_lzw", True, without(PHOTOMETRIC), False),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_page_has_no_flag(tmp_path: Path, name: str) -> None:
    compression, colour, change, turned = SOUND[name]
    data = written(compression, colour=colour)
    there = opened(tmp_path, data)
    page = opened(tmp_path, changed(data, change, turned=turned))
    assert (page.flags, page.share) == ((), None)
    assert np.array_equal(page.pixels, there.pixels)


def test_fax_without_a_meaning_is_dark_on_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.asarray(Image.open(BytesIO(written())).convert("L")) < 128)  # white is 0
    buffer = BytesIO()
    image.save(buffer, "TIFF", compression="group4", tiffinfo={ROWS: 900}, strip_size=1 << 24)
    page = opened(tmp_path, changed(buffer.getvalue(), without(PHOTOMETRIC)))
    assert page.share is None and page.pixels.mean() > 200


@pytest.mark.parametrize("change", [count_of(0), count_of(1_000_000), own_tag])
@pytest.mark.parametrize("compression", ["group4", "packbits", "jpeg", "tiff_lzw", None])
def test_half_a_page_is_none(tmp_path: Path, compression: str | None, change: Callable[[Tags], object]) -> None:
    data = changed(written(compression), change)
    begin = len(changed(written(compression), change)) - len(written(compression)) // 2
    with pytest.raises(CorruptImage, match="% of its rows"):
        opened(tmp_path, data[:begin])


def test_fax_that_ends_between_two_rows(tmp_path: Path) -> None:
    """libtiff does not say so of group 4: a count that cannot be right, and no end mark, is not a sound page."""
    data = changed(written(), count_of(1_000_000))
    for cut in range(len(data) // 2, len(data) // 2 + 60, 3):
        with pytest.raises(CorruptImage):
            opened(tmp_path, data[:cut])


@pytest.mark.parametrize("compression", [34712, 50013])
def test_a_kind_that_nobody_reads_is_not_called_damage(tmp_path: Path, compression: int) -> None:
    data = changed(written(None), lambda tags: tags.update({COMPRESSION: (3, 1, struct.pack("<HH", compression, 0))}))
    with pytest.raises(UnsupportedFormat, match="a TIFF of a kind not read here"):
        opened(tmp_path, data)


def test_webp_in_a_tiff_is_a_kind_not_read_here(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="not read here"):
        opened(tmp_path, changed(written(None), lambda tags: tags.update({COMPRESSION: (3, 1, b"\x51\xc3\0\0")})))


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_lab(tmp_path: Path, compression: str | None) -> None:
    """libvips cannot read them, and Pillow can: no reason to call them damaged."""
    pixels = np.asarray(Image.open(BytesIO(written(None))).convert("RGB"))
    lab = np.zeros_like(pixels)
    lab[:, :, 0] = pixels[:, :, 0]
    buffer = BytesIO()
    Image.frombytes("LAB", (700, 900), lab.tobytes()).save(buffer, "TIFF", compression=compression)
    page = opened(tmp_path, buffer.getvalue())
    assert (page.flags, page.share) == ((), None) and page.pixels.mean() > 200


def with_sub_directory(thumbnail: Picture, large: Picture, photometric: int = 1) -> bytes:
    """A chain of one thumbnail, whose sub-directory (tag 330) is the picture that it was made of."""
    data = bytearray(raw_tiff([thumbnail, large]))
    first = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, first)[0]
    second = struct.unpack_from("<I", data, first + 2 + 12 * count)[0]
    struct.pack_into("<I", data, first + 2 + 12 * count, 0)
    struct.pack_into("<HHIHH", data, second + 2 + 12 * 5, PHOTOMETRIC, 3, 1, photometric, 0)
    place = len(data)
    data += struct.pack("<H", count + 1) + data[first + 2 : first + 2 + 12 * count]
    data += struct.pack("<HHII", 330, 4, 1, second) + bytes(4)
    struct.pack_into("<I", data, 4, place)
    return bytes(data)


def test_what_a_thumbnail_was_made_of(tmp_path: Path) -> None:
    data = with_sub_directory(Picture(20, 16, 1), Picture(200, 160))
    page = opened(tmp_path, data)
    assert (page.width, page.height) == (200, 160) and count_pages(tmp_path / "a.tif") == 1
    assert np.array_equal(page.pixels, opened(tmp_path, raw_tiff([Picture(200, 160)])).pixels)
    with pytest.raises(CorruptImage, match="% of its rows"):
        opened(tmp_path, cut_large(data))


def cut_large(data: bytes) -> bytes:
    """The strip of the sub-directory's picture begins further back than half of it would allow."""
    place = data.index(struct.pack("<HHII", 257, 4, 1, 160)) - 36 + 24
    strip = data.index(struct.pack("<HHI", STRIPS, 4, 1), place)
    return data[: strip + 8] + struct.pack("<I", len(data) - 200 * 80) + data[strip + 12 :]


def test_a_thumbnail_of_raw_samples_says_that_there_is_more(tmp_path: Path) -> None:
    page = opened(tmp_path, with_sub_directory(Picture(20, 16, 1), Picture(200, 160), photometric=32803))
    assert (page.width, page.flags) == (20, ("more_pictures",))


def test_a_whole_picture_with_smaller_ones_is_itself(tmp_path: Path) -> None:
    page = opened(tmp_path, with_sub_directory(Picture(200, 160), Picture(100, 80, 1)))
    assert (page.width, page.flags) == (200, ())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pillow_turns_no_page_twice(tmp_path: Path, orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It turns a TIFF by itself: without libvips, and of what libvips cannot read (Lab)."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20, :30, 0] = 255
    for mode in ("RGB", "LAB"):
        buffer = BytesIO()
        image = Image.frombytes(mode, (60, 40), pixels.tobytes())
        image.save(buffer, "TIFF", compression="tiff_lzw", tiffinfo={274: orientation})
        with monkeypatch.context() as patch:
            patch.setattr("detector.images.budget.has_vips", lambda known=mode == "LAB": known)
            page = opened(tmp_path, buffer.getvalue())
        corners = page.pixels[[5, 5, -5, -5], [5, -5, 5, -5], 0] > 128
        assert page.pixels.shape[:2] == ((60, 40) if orientation >= 5 else (40, 60))
        assert corners.tolist().index(True) == {1: 0, 2: 1, 3: 3, 4: 2, 5: 0, 6: 1, 7: 3, 8: 2}[orientation]
