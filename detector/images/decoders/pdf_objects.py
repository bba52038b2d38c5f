"""Where a PDF page's pictures and text lie, what the pictures are and what is stored of them, as pdfium tells."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pypdfium2.raw as pdfium

from detector.images.decoders.damage import Pixels
from detector.images.decoders.pdf_walk import Corners, bounds_of, has_ink, matrix_of, objects_of, through, times
from detector.images.decoders.places import is_even

MOST_PICTURES = 20_000
"""Of a page, and forms: one takes 13 us. Forms in forms may hold a million; a scan in strips has a few hundred."""

MOST_OBJECTS = 1_000_000
"""Of any kind. A newspaper's words, before the picture that they are of, are 10,000."""

_HOLD_PICTURES = (pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_FORM)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture on a page.

    Attributes:
        object: pdfium's.
        left, top, right, bottom: its place on the drawn page, pixels.
    """

    object: Any
    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        """Pixels."""
        return (self.right - self.left) * (self.bottom - self.top)

    def place(self, pixels: Pixels) -> Pixels:
        """Of the drawn page, (H, W, ...)."""
        return pixels[self.top : self.bottom, self.left : self.right]


def pictures_on(page: Any, width: int, height: int) -> Iterator[Picture]:
    """The pictures that have a place on the drawn page."""
    pictures = iter(range(MOST_PICTURES))
    for found, kind, outer, _ in objects_of(page, MOST_OBJECTS):
        if kind in _HOLD_PICTURES and next(pictures, None) is None:
            return
        if kind == pdfium.FPDF_PAGEOBJ_IMAGE:
            matrix = times(matrix_of(found), outer)
            picture = _placed(page, found, through(matrix, 0.0, 0.0, 1.0, 1.0), width, height)
            if picture is not None:
                yield picture


def shows_text(page: Any, pixels: Pixels) -> bool:
    """Whether there is text that leaves something on the drawn page: no spaces, nothing white on white or beside it."""
    height, width = pixels.shape[:2]
    for found, kind, outer, _ in objects_of(page, MOST_OBJECTS):
        if kind == pdfium.FPDF_PAGEOBJ_TEXT and has_ink(found):
            left, bottom, right, top = bounds_of(found)
            if left < right and bottom < top:
                text = _placed(page, found, through(outer, left, bottom, right, top), width, height)
                if text is not None and not is_even(text.place(pixels)):
                    return True
    return False


def _placed(page: Any, found: Any, corners: Corners, width: int, height: int) -> Picture | None:
    on_page = [_on_page(page, x, y, width, height) for x, y in corners]
    across, down = [x for x, _ in on_page], [y for _, y in on_page]
    left, right = max(0, min(across)), min(width, max(across))
    top, bottom = max(0, min(down)), min(height, max(down))
    return Picture(found, left, top, right, bottom) if left < right and top < bottom else None


def _on_page(page: Any, x: float, y: float, width: int, height: int) -> tuple[int, int]:
    across, down = ctypes.c_int(), ctypes.c_int()
    pdfium.FPDF_PageToDevice(page, 0, 0, width, height, 0, x, y, across, down)
    return across.value, down.value


def within(pixels: Pixels, picture: Picture) -> Pixels:
    """A picture's place, less a pixel all around where it has more: a page drawn again may be one larger or smaller."""
    inset = 1 if min(picture.right - picture.left, picture.bottom - picture.top) > 8 else 0
    return pixels[picture.top + inset : picture.bottom - inset, picture.left + inset : picture.right - inset]


def size_of(found: Any) -> tuple[int, int]:
    """Width and height, pixels, as the PDF says."""
    width, height = ctypes.c_uint(), ctypes.c_uint()
    pdfium.FPDFImageObj_GetImagePixelSize(found, width, height)
    return width.value, height.value


def bits_of(page: Any, found: Any) -> tuple[int, int]:
    """Bits a pixel, and pdfium's number of the colour space. Not for pictures that pdfium unpacks whole to say it."""
    said = pdfium.FPDF_IMAGEOBJ_METADATA()
    known = pdfium.FPDFImageObj_GetImageMetadata(found, page, said)
    return (said.bits_per_pixel, said.colorspace) if known else (0, 0)


def filters_of(found: Any) -> list[str]:
    """The filters of a picture's data, the outermost first."""
    names = []
    for number in range(min(8, pdfium.FPDFImageObj_GetImageFilterCount(found))):
        buffer = ctypes.create_string_buffer(64)
        pdfium.FPDFImageObj_GetImageFilter(found, number, buffer, 64)
        names.append(buffer.value.decode("latin-1"))
    return names


def stored(found: Any, most: int, *, raw: bool) -> memoryview | None:
    """A picture's bytes; unless raw, with the filters taken off that any stream may have. None: more than so many."""
    get = pdfium.FPDFImageObj_GetImageDataRaw if raw else pdfium.FPDFImageObj_GetImageDataDecoded
    size = get(found, None, 0)
    if size > most:
        return None
    buffer = (ctypes.c_ubyte * size)()
    get(found, buffer, size)
    return memoryview(buffer).cast("B")


def stored_bytes(found: Any) -> int:
    """How many bytes a picture has with all filters on."""
    return int(pdfium.FPDFImageObj_GetImageDataRaw(found, None, 0))


def unpacked_bytes(found: Any) -> int:
    """How many bytes come out of the filters that any stream may have; pdfium holds them for a moment."""
    return int(pdfium.FPDFImageObj_GetImageDataDecoded(found, None, 0))
