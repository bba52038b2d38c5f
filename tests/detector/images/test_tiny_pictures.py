"""Pictures of a pixel, or of a line of them, of every format, mode and depth: pages, or one typed error each."""

from __future__ import annotations

import io
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.errors import ImageError
from detector.images import budget
from detector.images.page import count_pages, open_page, open_strips, page_header

pillow_heif = pytest.importorskip("pillow_heif")

SIZES = ((1, 1), (1, 5), (5, 1))
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I;16B", "I", "F")
FORMATS: dict[str, tuple[dict[str, Any], ...]] = {
    "PNG": ({},),
    "GIF": ({},),
    "BMP": ({},),
    "DIB": ({},),
    "PPM": ({},),
    "PCX": ({},),
    "TGA": ({}, {"compression": "tga_rle"}),
    "HEIF": ({},),
    "WEBP": ({}, {"lossless": True}),
    "JPEG": ({}, {"progressive": True}),
    "JPEG2000": ({},),
    "AVIF": ({},),
    "PDF": ({},),
    "TIFF": tuple(
        {"compression": name}
        for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group3", "group4", "lzma", "zstd")
    ),
}


def written(size: tuple[int, int], formats: dict[str, tuple[dict[str, Any], ...]]) -> Iterator[tuple[str, bytes]]:
    """What Pillow can write, and TIFFs in tiles and of other samples that libvips writes."""
    for mode in MODES:
        picture = Image.new(mode.replace("B", "") if mode == "I;16B" else mode, size)
        for name, ways in formats.items():
            for options in ways:
                file = io.BytesIO()
                with suppress(OSError, KeyError, ValueError, RuntimeError, TypeError), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    saves = pillow_heif.from_pillow(picture) if name == "HEIF" else picture
                    saves.save(file, **({"format": name} if name != "HEIF" else {}), **options)
                    yield f"{name} {mode} {options}", file.getvalue()
    if "TIFF" in formats:
        from detector.images.vips import SAMPLES, libvips

        for sample in (*SAMPLES.values(), "i1"):
            for bands in (1, 2, 3, 4):
                picture = libvips().Image.new_from_array(np.ones((size[1], size[0], bands), sample))
                for tile in (False, True):
                    yield f"TIFF {sample} {bands} {tile}", picture.tiffsave_buffer(tile=tile, compression="deflate")


def why_not(data: bytes, name: str, size: tuple[int, int]) -> str:
    """By all that opens pages, of which one refuses it; whatever they raise beside an ImageError is a fault of ours."""
    with tempfile.NamedTemporaryFile(suffix="." + name[:3]) as file:  # a TGA is known by its name
        file.write(data)
        file.flush()
        return _why_not(Path(file.name), name, size)


def _why_not(file: Path, name: str, size: tuple[int, int]) -> str:
    try:
        assert count_pages(file) == 1, name
        page_header(file)
        for limit_side in (32, 640):
            page = open_page(file, limit_side=limit_side)
            assert page.pixels.ndim == 3 and page.pixels.shape[2] == 3 and page.pixels.dtype == np.uint8, name
            assert name.startswith("PDF") or (page.width, page.height) == size, name
            assert page.share is None or 0 <= page.share <= 1, name
            with open_strips(file, limit_side=limit_side) as strips:
                assert strips is None, name
    except ImageError as error:
        return f"{name}: {error.type}"
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("vips", [True, False])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_all_are_pages(size: tuple[int, int], vips: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: of grey TIFFs of a pixel libvips gives a mere number: Internal, and `detect` ended with a traceback."""
    files = list(written(size, FORMATS))
    if not vips:
        monkeypatch.setattr(budget, "has_vips", lambda: False)
    assert len(files) > 250
    refused = list(filter(None, (why_not(data, name, size) for name, data in files)))
    # Not read of any size: Pillow's floating point PPM, 64-bit samples; without libvips several deep samples.
    never = re.compile(r"PPM F|TIFF f8|TIFF LAB .*jpeg" + ("" if vips else r"|TIFF [uif][124] [234]"))
    assert [line for line in refused if not never.match(line)] == []


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES[:2], ids=str)
def test_cut_off_or_spoilt_they_raise_typed_errors(size: tuple[int, int]) -> None:
    for name, data in written(size, FORMATS):
        for spoilt in (data[:-1], data[: len(data) * 3 // 4], data[:-8] + bytes(8)):
            why_not(spoilt, name, size)
