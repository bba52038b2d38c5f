"""What cannot be opened is refused with the right type and one line that names the file."""

from __future__ import annotations

import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from detector.errors import CorruptImage, ImageError, NotFound, TooLarge, UnsupportedFormat, show
from detector.images import budget as image_budget
from detector.images.page import count_pages, open_page
from detector.images.regular_file import FewReads
from tests.detector.samples import asymmetric, encoded, exif_bytes, noise


def refused(path: Path, **options: int) -> ImageError:
    with pytest.raises(ImageError) as caught:
        open_page(path, limit_side=640, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(show(path) + ": ")
    assert caught.value.type == type(caught.value).__name__
    return caught.value


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


CUT = {
    "baseline.jpg": lambda: encoded(noise(300, 200), "JPEG"),
    "progressive.jpg": lambda: encoded(noise(300, 200), "JPEG", progressive=True),
    "with-preview.jpg": lambda: encoded(noise(300, 200), "JPEG", exif=b"Exif\0\0" + encoded(noise(60, 40), "JPEG")),
    "plain.png": lambda: encoded(noise(300, 200), "PNG"),
    "lossy.webp": lambda: encoded(noise(300, 200), "WEBP"),
    "lossless.webp": lambda: encoded(noise(300, 200), "WEBP", lossless=True),
    "alpha.webp": lambda: encoded(noise(300, 200).convert("RGBA"), "WEBP", lossless=True),
    "plain.tif": lambda: encoded(noise(300, 200), "TIFF"),
    "packed.tif": lambda: encoded(noise(300, 200), "TIFF", compression="tiff_lzw"),
    "plain.gif": lambda: encoded(noise(300, 200), "GIF"),
    "plain.bmp": lambda: encoded(noise(300, 200), "BMP"),
    "plain.ppm": lambda: encoded(noise(300, 200), "PPM"),
}


# Row by row from the top: what is there is known, and is enough from 90 % on.
SAVED = ("baseline.jpg", "with-preview.jpg", "plain.tif")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("name", CUT)
def test_a_cut_file_is_corrupt_not_grey(tmp_path: Path, name: str, share: float) -> None:
    data = CUT[name]()
    assert open_page(write(tmp_path / name, data), limit_side=640).width == 300
    if share > 0.9 and name in SAVED:
        page = open_page(write(tmp_path / name, data[: int(len(data) * share)]), limit_side=640)
        assert "damaged" in page.flags and page.share is not None and 0.9 <= page.share < 1
        return
    assert refused(write(tmp_path / name, data[: int(len(data) * share)])).type == "CorruptImage"


SOUND = {
    **CUT,
    "turned.jpg": lambda: encoded(noise(120, 90), "JPEG", exif=exif_bytes(6)),
    "jpeg-in.tif": lambda: encoded(noise(120, 90), "TIFF", compression="jpeg"),
    "plain.jp2": lambda: encoded(noise(120, 90), "JPEG2000"),
    "plain.avif": lambda: encoded(noise(120, 90), "AVIF", speed=10),
    "plain.pdf": lambda: encoded(noise(120, 90), "PDF"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
def test_random_damage_is_always_one_of_our_errors(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    sound = SOUND[name]()
    outcomes = set()
    for attempt in range(40):
        data = bytearray(sound)
        if attempt % 4 == 3:
            start = int(rng.integers(len(data)))
            del data[start : start + int(rng.integers(1, 300))]
        else:  # mostly in the header, where lies matter
            for _ in range(int(rng.integers(1, 12))):
                data[int(rng.integers(len(data) if attempt % 4 == 2 else min(len(data), 400)))] = int(rng.integers(256))
        path = write(tmp_path / name, bytes(data))
        try:
            count_pages(path)
            open_page(path, limit_side=64, max_pixels=2_000_000, max_bytes=100 * 2**20)
            outcomes.add("ok")
        except ImageError as error:
            assert "\n" not in str(error)
            outcomes.add(error.type)
    assert outcomes & {"CorruptImage", "UnsupportedFormat", "TooLarge"}


@pytest.mark.parametrize("name", ["plain.png", "lossy.webp", "lossless.webp"])
def test_a_cut_file_is_corrupt_when_streamed(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_budget, "VIPS_FROM_PIXELS", 1)
    data = CUT[name]()
    assert refused(write(tmp_path / name, data[: len(data) // 2])).type == "CorruptImage"


def test_jpeg_cut_in_pieces_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.images.decoders.jpeg._WHOLE_FILE_BYTES", 100)
    data = CUT["baseline.jpg"]()
    assert refused(write(tmp_path / "a.jpg", data[: len(data) // 2])).type == "CorruptImage"


def test_trailing_rubbish_does_not_hurt_a_jpeg(tmp_path: Path) -> None:
    path = write(tmp_path / "padded.jpg", encoded(asymmetric(), "JPEG") + b"\0" * 5000)
    assert open_page(path, limit_side=640).width == 120


def test_empty_file(tmp_path: Path) -> None:
    assert isinstance(refused(write(tmp_path / "zero.jpg", b"")), CorruptImage)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"Dear archivist,\n", "not an image"),
        (b"PK\x03\x04rest of a zip", "zip archive"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"<?xml version='1.0'?><svg/>", "XML"),
        (b"%!PS-Adobe-3.0 EPSF", "PostScript"),
        (b"BM and so on, a letter about Bavaria", "not an image"),
        (b"P", "not an image"),
    ],
)
def test_other_content_is_unsupported_whatever_the_name(
    tmp_path: Path, content: bytes, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as where the extra is not installed
    error = refused(write(tmp_path / "photo.jpg", content))
    assert isinstance(error, UnsupportedFormat)
    assert says in str(error)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8\xff\xe0rubbish",
        b"\x89PNG\r\n\x1a\nrubbish and more rubbish",
        b"II*\0\xff\xff\xff\xff",
        b"RIFF\x10\0\0\0WEBPVP8 \x04\0\0\0....",
        b"GIF89a",
        b"P6\nnonsense here",
        b"%PDF-1.4\nnothing",
    ],
)
def test_damaged_headers(tmp_path: Path, content: bytes) -> None:
    assert isinstance(refused(write(tmp_path / "a.img", content)), CorruptImage)


def huge_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


def huge_jpeg(width: int, height: int) -> bytes:
    data = bytearray(encoded(asymmetric(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def huge_tiff(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("L", (17, 19)), "TIFF"))
    for tag, old, new in ((256, 17, width), (257, 19, height)):
        for kind, layout in ((3, "<HHIHH"), (4, "<HHII")):
            entry = struct.pack(layout, *((tag, kind, 1, old, 0) if kind == 3 else (tag, kind, 1, old)))
            data = bytearray(bytes(data).replace(entry, struct.pack("<HHII", tag, 4, 1, new)))
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.png", huge_png(100_000, 100_000)),
        ("a.jpg", huge_jpeg(65_000, 65_000)),
        ("a.tif", huge_tiff(100_000, 100_000)),
    ],
)
def test_a_header_that_claims_too_much(tmp_path: Path, name: str, data: bytes) -> None:
    error = refused(write(tmp_path / name, data))
    assert isinstance(error, TooLarge)
    assert "limit is 200" in str(error)
    assert "OCRFLEET_MAX_PIXELS" in str(error)


def test_the_limit_is_the_callers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", encoded(asymmetric(), "PNG"))
    assert open_page(path, limit_side=640, max_pixels=120 * 80).width == 120
    assert isinstance(refused(path, max_pixels=120 * 80 - 1), TooLarge)


def test_progressive_jpeg_counts_its_coefficients(tmp_path: Path) -> None:
    picture = Image.new("RGB", (3000, 2000), "white")
    plain = write(tmp_path / "plain.jpg", encoded(picture, "JPEG"))
    woven = write(tmp_path / "woven.jpg", encoded(picture, "JPEG", progressive=True))
    assert open_page(plain, limit_side=320, max_bytes=10_000_000).width == 3000
    error = refused(woven, max_bytes=10_000_000)
    assert isinstance(error, TooLarge)
    assert "progressive JPEG" in str(error)
    assert "baseline" in str(error)


def test_missing_things(tmp_path: Path) -> None:
    assert isinstance(refused(tmp_path / "nowhere.jpg"), NotFound)
    assert isinstance(refused(tmp_path), NotFound)
    os.mkfifo(tmp_path / "pipe.jpg")
    assert isinstance(refused(tmp_path / "pipe.jpg"), NotFound)
    with pytest.raises(NotFound):
        count_pages(tmp_path / "nowhere.pdf")


def test_names_in_messages_are_printable(tmp_path: Path) -> None:
    path = write(tmp_path / os.fsdecode(b"a\nb\xe9\x1b[31m.jpg"), b"")
    message = str(refused(path))
    assert r"a\nb\xe9\x1b[31m.jpg" in message
    assert message.isprintable()
    message.encode()  # no lone surrogates


def test_floating_point_samples_are_read(tmp_path: Path) -> None:
    path = tmp_path / "float.tif"
    pixels = np.random.default_rng(0).random((40, 60, 3), np.float32)
    pyvips.Image.new_from_memory(pixels.tobytes(), 60, 40, 3, "float").write_to_file(str(path))
    assert count_pages(path) == 1
    assert 150 < open_page(path, limit_side=640).pixels.mean() < 200  # scRGB is linear; Pillow does not read it


LONG = {
    "a.png": b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 9, 9, 8, 2, 0, 0, 0, 0),
    "a.webp": b"RIFF\xff\xff\xff\x3fWEBP",
    "a.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0",
    "a.gif": b"GIF89a\x09\0\x09\0\0\0\0",
    "a.ppm": b"P6\n#",
    "a.avif": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf",
}


@pytest.mark.parametrize("name", LONG)
def test_a_header_that_does_not_end(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: 12 bytes and a hole of 2 TiB took hours, and 40 MiB of zeros up to 15 s."""
    monkeypatch.setattr(FewReads, "most", 1_000)
    monkeypatch.setattr(FewReads, "most_bytes", 1 << 20)
    os.truncate(write(tmp_path / name, LONG[name]), 1 << 30)
    assert isinstance(error := refused(tmp_path / name), CorruptImage)
    assert "does not end within 1,000 reads" in str(error) or (name == "a.avif" and "within 1 MiB" in str(error))
