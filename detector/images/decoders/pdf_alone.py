"""What pdfium makes of a PDF's picture by itself, whatever lies over it on the page."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pypdfium2.raw as pdfium

from detector.images.decoders.damage import Pixels
from detector.images.decoders.pdf_objects import size_of
from detector.images.decoders.pdf_walk import matrix_of
from detector.images.decoders.places import is_even

MOST_DRAWN = 16_000_000
"""Points of a picture's own matrix: it is drawn a pixel a point to see whether anything is left of it."""

_BITMAP = 5  # bytes a pixel, of a picture that is unpacked
_CHANNELS = {
    pdfium.FPDFBitmap_Gray: 1,
    pdfium.FPDFBitmap_BGR: 3,
    pdfium.FPDFBitmap_BGRx: 4,
    pdfium.FPDFBitmap_BGRA: 4,
    pdfium.FPDFBitmap_BGRA_Premul: 4,
}


def is_transparent(document: Any, page: Any, found: Any) -> bool:
    """Whether a picture leaves nothing where it is drawn with its mask, a pixel a point."""
    a, b, c, d, _, _ = matrix_of(found)
    if math.hypot(a, b) * math.hypot(c, d) > MOST_DRAWN:
        return False
    with _pixels(pdfium.FPDFImageObj_GetRenderedBitmap(document, page, found)) as pixels:
        if pixels is None:
            return True
        return pixels.shape[2] == 4 and not pixels[..., 3].any()


def is_affordable(found: Any, max_bytes: int) -> bool:
    """Whether there is memory (bytes) to unpack a picture, for the next two."""
    wide, high = size_of(found)
    return wide * high * _BITMAP <= max_bytes


def unpacks(found: Any) -> bool:
    """Whether anything comes of its data, masks apart."""
    with _pixels(pdfium.FPDFImageObj_GetBitmap(found)) as pixels:
        return pixels is not None


def unpacks_to_one_colour(found: Any) -> bool:
    """Whether that is one colour, or nothing: pdfium has black for a JPEG of arithmetic coding."""
    with _pixels(pdfium.FPDFImageObj_GetBitmap(found)) as pixels:
        return pixels is None or is_even(pixels[..., :3])


@contextmanager
def _pixels(bitmap: Any) -> Iterator[Pixels | None]:
    """A bitmap of pdfium's as (H, W, channels) uint8, blue first; it is let go of at the end."""
    if not bitmap:
        yield None
        return
    try:
        channels = _CHANNELS[pdfium.FPDFBitmap_GetFormat(bitmap)]
        width, height = pdfium.FPDFBitmap_GetWidth(bitmap), pdfium.FPDFBitmap_GetHeight(bitmap)
        stride = pdfium.FPDFBitmap_GetStride(bitmap)
        data = ctypes.cast(pdfium.FPDFBitmap_GetBuffer(bitmap), ctypes.POINTER(ctypes.c_ubyte))
        rows = np.ctypeslib.as_array(data, (height, stride))
        yield (
            rows[:, : width * channels].reshape(height, width, channels)
            if stride == width * channels
            else (np.lib.stride_tricks.as_strided(rows, (height, width, channels), (stride, channels, 1)))
        )
    finally:
        pdfium.FPDFBitmap_Destroy(bitmap)
