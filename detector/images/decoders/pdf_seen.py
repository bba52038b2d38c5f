"""How much of a PDF's pictures is seen on the page: not what lies under others, is clipped, or in a layer that is off.

pdfium tells none of that. So the pictures are made black, then white, and the page is drawn again each time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pypdfium2.raw as pdfium

from detector.images.decoders.damage import Pixels
from detector.images.decoders.pdf_objects import Picture, within

_FAINT = 16  # of 255 levels between black and white: an opacity of 6 %; what is less is no loss


def seen_shares(page: Any, pictures: Sequence[Picture], redraw: Callable[[], Pixels]) -> list[float]:
    """The share of each one's place where it is seen. It spoils the pictures: they are of one colour from then on.

    Args:
        page: pdfium's.
        pictures: on it.
        redraw: draws it again, (H, W, 3) uint8; of nearly the size that the pictures' places are told for.
    """
    drawn = []
    for colour in (0xFF000000, 0xFFFFFFFF):
        if not all(_paint(page, picture.object, colour) for picture in pictures):
            return [1.0] * len(pictures)
        drawn.append(redraw())
    black, white = drawn
    changed = (np.maximum(black, white) - np.minimum(black, white)).max(axis=2) > _FAINT
    places = [within(changed, picture) for picture in pictures]
    return [float(place.mean()) if place.size else 1.0 for place in places]


def _paint(page: Any, found: Any, colour: int) -> bool:
    bitmap = pdfium.FPDFBitmap_CreateEx(1, 1, pdfium.FPDFBitmap_BGR, None, 0)
    if not bitmap:
        return False
    try:
        pdfium.FPDFBitmap_FillRect(bitmap, 0, 0, 1, 1, colour)
        return bool(pdfium.FPDFImageObj_SetBitmap(ctypes.pointer(page), 1, found, bitmap))
    finally:
        pdfium.FPDFBitmap_Destroy(bitmap)
