"""Pictures whose samples mean something else than they say: alpha that nobody wrote, samples below 0."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import pyvips
from PIL import Image

from detector.errors import UnsupportedFormat
from detector.images.decode import eight_bit
from detector.images.header import read_header
from detector.images.page import open_page
from detector.images.vips import VipsStrips
from tests.detector.samples import encoded

pytestmark = pytest.mark.slow

Pixels = npt.NDArray[np.uint8]


def lettered(width: int = 700, height: int = 900) -> Pixels:
    pixels = np.full((height, width, 3), 250, np.uint8)
    for line in range(8):
        cv2.putText(pixels, f"INVOICE {line * 777}", (40, 90 + 100 * line), cv2.FONT_HERSHEY_SIMPLEX, 1.6, (20,) * 3, 3)
    return pixels


def bitmap(pixels: Pixels) -> bytes:
    """A 32-bit BMP whose header names a mask for alpha."""
    body = pixels[::-1, :, [2, 1, 0, 3]].tobytes()
    height, width = pixels.shape[:2]
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(body), 0, 0, 0, 0) + masks + b" niW"
    return b"BM" + struct.pack("<IHHI", 122 + len(body), 0, 0, 122) + header + bytes(48) + body


KINDS: dict[str, dict[str, object]] = {
    "BMP": {},
    "PNG": {},
    "TGA": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"lossless": True, "exact": True, "method": 0},
    "JPEG2000": {},
}


@pytest.mark.parametrize("limit_side", [900, 450])
@pytest.mark.parametrize("kind", KINDS)
def test_alpha_of_0_all_over_is_no_alpha(tmp_path: Path, kind: str, limit_side: int) -> None:
    pixels = np.dstack([lettered(), np.zeros((900, 700), np.uint8)])
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(bitmap(pixels) if kind == "BMP" else encoded(Image.fromarray(pixels), kind, **KINDS[kind]))
    (tmp_path / "b.png").write_bytes(encoded(Image.fromarray(lettered()), "PNG"))
    there = open_page(tmp_path / "b.png", limit_side=limit_side).pixels
    assert np.corrcoef(open_page(path, limit_side=limit_side).pixels.ravel(), there.ravel())[0, 1] > 0.98


def test_in_strips(tmp_path: Path) -> None:
    """A row that is not 0 counts, wherever it is."""
    for opaque in (0, 1):
        pixels = np.dstack([lettered(), np.zeros((900, 700), np.uint8)])
        pixels[-opaque or 900 :, :, 3] = 255
        path = tmp_path / "a.tif"
        path.write_bytes(encoded(Image.fromarray(pixels), "TIFF"))
        with path.open("rb") as file:
            strips = VipsStrips(file, read_header(file, "tiff", "a.tif"), (700, 900), "a.tif")
            rows = strips.rows(0, 900)
        assert np.array_equal(rows, lettered()) if not opaque else (rows[:-1] == 255).all()


@pytest.mark.parametrize(
    ("kind", "format", "scale", "low"),
    [(np.int16, "short", 10, -1024), (np.int16, "short", 250, -32000), (np.int32, "int", 600, -70000)],
)
def test_samples_below_0(tmp_path: Path, kind: type[np.integer], format: str, scale: int, low: int) -> None:
    grey = (lettered()[:, :, 0].astype(np.int64) * scale + low).astype(kind)
    path = tmp_path / "a.tif"
    pyvips.Image.new_from_memory(grey.tobytes(), 700, 900, 1, format).write_to_file(str(path))
    seen = open_page(path, limit_side=900).pixels[:, :, 0]
    assert seen.min() < 20 and seen.max() - seen.min() > 100
    assert np.corrcoef(seen.ravel(), lettered()[:, :, 0].ravel())[0, 1] > 0.999


def test_eight_bits_with_a_sign_are_without_one(tmp_path: Path) -> None:
    """Writers say so of ordinary pictures, and Pillow takes no notice."""
    path = tmp_path / "a.tif"
    grey = np.ascontiguousarray(lettered()[:, :, 0])
    pyvips.Image.new_from_memory(grey.tobytes(), 700, 900, 1, "char").write_to_file(str(path))
    assert np.array_equal(open_page(path, limit_side=900).pixels[:, :, 0], grey)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[-1024, 0, 3071]], np.int16), [0, 64, 255]),
        (np.array([[0, 4095]], np.uint16), [0, 255]),
        (np.array([[-32768, 32767]], np.int16), [0, 255]),
        (np.array([[0, 0xFFFFFFFF]], np.uint32), [0, 255]),
        (np.empty((0, 3), np.int16), []),
    ],
)
def test_eight_bit(values: npt.NDArray[np.integer], expected: list[int]) -> None:
    assert eight_bit(values).ravel().tolist() == expected


def test_a_bitmap_whose_reserved_bytes_are_used(tmp_path: Path) -> None:
    data = bytearray(encoded(Image.fromarray(lettered(70, 90)), "BMP"))
    data[6:10] = b"\1\2\3\4"
    path = tmp_path / "a.bmp"
    path.write_bytes(data)
    assert open_page(path, limit_side=90).width == 70
    data[26:28] = b"\0\0"  # planes, which are always 1
    path.write_bytes(data)
    with pytest.raises(UnsupportedFormat, match="not an image"):
        open_page(path, limit_side=90)
