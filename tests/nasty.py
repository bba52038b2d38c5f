"""The nasty folder: every kind of file that ends other people's batches."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.pictures import text_image

EXIF_ORIENTATION = 0x0112


def png_header_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size its few bytes cannot hold."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))


def write_nasty_folder(folder: Path) -> dict[str, tuple[int, str]]:
    """Write the folder.

    Returns:
        Name as the record shows it -> (pages, error type of every page, "" for ok).
    """
    folder.mkdir(parents=True)
    expected: dict[str, tuple[int, str]] = {}

    def add(name: str | bytes, data: bytes | None = None, *, pages: int = 1, error: str = "") -> Path:
        raw = name if isinstance(name, bytes) else name.encode()
        path = folder / os.fsdecode(raw)
        if data is not None:
            path.write_bytes(data)
        expected[raw.decode("utf-8", "backslashreplace")] = (pages, error)
        return path

    add("zero-byte.jpg", b"", error="CorruptImage")
    whole = add("whole.jpg")
    text_image().save(whole, quality=90)
    add("truncated.jpg", whole.read_bytes()[: whole.stat().st_size // 2], error="CorruptImage")
    add("text-renamed.jpg", b"Dear archivist,\nthis is not a picture.\n" * 20, error="UnsupportedFormat")
    gray = np.asarray(text_image().convert("L"), np.uint16) * 257
    Image.fromarray(gray).save(add("sixteen-bit.png"))
    palette = text_image().convert("P", dither=Image.Dither.NONE)
    palette.info["transparency"] = 0
    palette.save(add("palette-alpha.png"), transparency=0)
    text_image().convert("CMYK").save(add("cmyk.jpg"), quality=90)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = orientation
        text_image(300, 200).save(add(f"exif-{orientation}.jpg"), exif=exif.tobytes(), quality=90)
    pages = [text_image(400, 300, f"PAGE {number}") for number in range(5)]
    pages[0].save(add("three-pages.tif", pages=3), save_all=True, append_images=pages[1:3])
    pages[0].save(add("five-pages.pdf", pages=5), save_all=True, append_images=pages[1:5])
    Image.new("RGB", (1, 1), "white").save(add("one-pixel.png"))
    strip = Image.new("RGB", (20000, 50), "white")
    strip.paste(text_image(480, 50, "STRIP"), (9000, 0))
    strip.save(add("strip.jpg"))
    # 80 megapixels: 240 MB if anybody decodes all of it.
    big = text_image(1000, 800).resize((10000, 8000))
    big.save(add("eighty-megapixels.jpg"), quality=70)
    add("liar.png", png_header_claiming(100_000, 100_000), error="TooLarge")
    small = whole.read_bytes()
    add("name with spaces & #1.jpg", small)
    add("文字-ñandú.jpg", small)
    add("line\nbreak.jpg", small)
    add(b"caf\xe9-latin1.jpg", small)
    return expected
