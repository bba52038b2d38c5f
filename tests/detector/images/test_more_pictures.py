"""Files of several pictures, of which one is a page: the record says so, as that one may be blank."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from detector.images.page import count_pages, open_page, open_strips
from tests.detector.samples import encoded, noise

FIRST, SECOND = noise(60, 40), noise(60, 40, seed=1)


def several(format: str, count: int = 2, mode: str = "RGB", **options: object) -> bytes:
    pictures = [noise(60, 40, seed).convert(mode) for seed in range(count)]
    return encoded(pictures[0], format, save_all=True, append_images=pictures[1:], **options)


def heic(count: int) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = pillow_heif.from_pillow(FIRST)
    for _ in range(count - 1):
        file.add_from_pillow(SECOND)
    buffer = BytesIO()
    file.save(buffer)
    return buffer.getvalue()


def deep(mode: bytes, samples: int, largest: int) -> bytes:
    return b"%s\n# by hand\n60 40\n%d\n" % (mode, largest) + bytes(60 * 40 * samples * (2 if largest > 255 else 1))


MORE: dict[str, Callable[[], bytes]] = {
    "a.gif": lambda: several("GIF"),
    "a.webp": lambda: several("WEBP"),
    "a.png": lambda: several("PNG"),
    "apart.png": lambda: several("PNG", default_image=True),
    "a.avif": lambda: several("AVIF", speed=10),
    "a.heic": lambda: heic(2),
    "a.ppm": lambda: encoded(FIRST, "PPM") + encoded(SECOND, "PPM"),
    "a.pgm": lambda: encoded(FIRST.convert("L"), "PPM") + encoded(SECOND, "PPM") * 2,
    "a.pbm": lambda: encoded(FIRST.convert("1"), "PPM") + b"\n" + encoded(SECOND, "PPM"),
    "deep.pgm": lambda: deep(b"P5", 1, 65535) + encoded(SECOND, "PPM"),
    "twelve.pgm": lambda: deep(b"P5", 1, 4095) * 2,
    "deep.ppm": lambda: deep(b"P6", 3, 65535) * 2,
    "four.pgm": lambda: deep(b"P5", 1, 15) * 2,
}

ONE: dict[str, Callable[[], bytes]] = {
    "a.gif": lambda: encoded(FIRST, "GIF"),
    "a.webp": lambda: encoded(FIRST, "WEBP"),
    "a.png": lambda: encoded(FIRST, "PNG"),
    "a.avif": lambda: encoded(FIRST, "AVIF", speed=10),
    "a.heic": lambda: heic(1),
    "a.ppm": lambda: encoded(FIRST, "PPM"),
    "a.pbm": lambda: encoded(FIRST.convert("1"), "PPM"),
    "deep.pgm": lambda: deep(b"P5", 1, 65535),
    "padded.ppm": lambda: encoded(FIRST, "PPM") + b"\n\n",
    "signed.ppm": lambda: encoded(FIRST, "PPM") + b"P6-like words of somebody",
    "plain.pgm": lambda: b"P2\n60 40\n255\n" + b"7 " * 2400,
    "one-frame.png": lambda: one_frame(),
    "one-frame.webp": lambda: one_frame_webp(),
}


def one_frame() -> bytes:
    """An animation of one frame, which is the picture itself."""
    data = encoded(FIRST, "PNG")
    begin = data.index(b"IDAT") - 4
    chunks = b""
    for kind, body in (
        (b"acTL", struct.pack(">II", 1, 0)),
        (b"fcTL", struct.pack(">5I2H2B", 0, 60, 40, 0, 0, 1, 1, 0, 0)),
    ):
        chunks += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:begin] + chunks + data[begin:]


def one_frame_webp() -> bytes:
    frame = encoded(FIRST, "WEBP")[12:]
    size = b"\x3b\0\0\x27\0\0"
    body = bytes(6) + size + b"\x64\0\0\0" + frame
    chunks = [(b"VP8X", b"\x02\0\0\0" + size), (b"ANIM", bytes(6)), (b"ANMF", body)]
    data = b"WEBP" + b"".join(kind + struct.pack("<I", len(chunk)) + chunk for kind, chunk in chunks)
    return b"RIFF" + struct.pack("<I", len(data)) + data


@pytest.mark.parametrize("name", MORE)
def test_more(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(MORE[name]())
    assert open_page(path, limit_side=100).flags == ("more_pictures",)
    assert count_pages(path) == 1


@pytest.mark.parametrize("name", ONE)
def test_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(ONE[name]())
    assert open_page(path, limit_side=100).flags == ()


def test_in_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VIPS_FROM_PIXELS", "STRIPS_FROM_BYTES"):
        monkeypatch.setattr(f"detector.images.budget.{name}", 1)
    path = tmp_path / "a.png"
    path.write_bytes(several("PNG"))
    with open_strips(path, limit_side=100) as page:
        assert page is not None and page.flags == ("more_pictures",)


def test_what_follows_may_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    data = several("GIF")
    path.write_bytes(data[: len(data) // 2 + 400])
    assert open_page(path, limit_side=100).width == 60
    assert Image.open(path).size == (60, 40)
