"""Text that pdfium left out of a page it drew, because its font is neither in the file nor on the machine.

pdfium has Latin fonts of its own. What needs another one is left out without a word: a page in Japanese whose font is
not in the file was a blank page, "ok". So on pages with fonts that are not in the file each character is asked for its
outline. One without, where the page is of one colour, is lost, unless it would not be seen anyway.
"""

from __future__ import annotations

import ctypes
import math
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pypdfium2.raw as pdfium

from detector.errors import printable
from detector.images.decoders.damage import Pixels
from detector.images.decoders.pdf_walk import Matrix, Placed, bounds_of, has_ink, objects_of, through

LEAST = 0.01
"""Of what is on a page: less is no loss, such as a table of a font's codes, two of which it has no letter for."""

MOST_OBJECTS = 20_000
"""Of a page: one takes 3 us."""

MOST_CHARACTERS = 1000
"""Of a page are looked at, evenly spread: one takes 10 us."""

MOST_PATHS, MOST_POINTS = 10, 100
"""That cut an object off, the innermost; and of each: 1,000 objects behind 500 rectangles took 8 s."""

MOST_FONTS, LONGEST_NAME = 3, 40
"""That are named, and characters of a name."""

_FLAT = 0.002  # of the font's size; the box that pdfium gives to no outline is a thousandth high
_UPRIGHT = 1e-3
_NARROW = 0.1  # pt
_NO_INK = frozenset(("Cc", "Cf", "Zs", "Zl", "Zp"))  # of Unicode: control, format, white space
_SAME = 8  # levels between text and what it lies on: it is not seen
_EVEN = 2  # levels that one colour may differ by
_EDGE = 0.2  # of a character's box on each side, where its neighbours and a table's lines may reach
_COVERS = (pdfium.FPDF_PAGEOBJ_PATH, pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_SHADING)


@dataclass(frozen=True, slots=True)
class LostText:
    """What is missing of a drawn page's text.

    Attributes:
        share: the lost characters' of the area of all characters and pictures on the page.
        fonts: of these, the most frequent first.
    """

    share: float = 0.0
    fonts: tuple[str, ...] = ()


class _Box(NamedTuple):
    """Of a page, pt, from its lower left corner."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def area(self) -> float:
        """0 of what is nowhere: a matrix may make infinity or NaN of any place."""
        area = max(0.0, self.right - self.left) * max(0.0, self.top - self.bottom)
        return area if math.isfinite(area) else 0.0


class _Lost(NamedTuple):
    box: _Box
    object: int  # address of the text that it is of
    font: str


def lost_text(page: Any, pixels: Pixels) -> LostText:
    """Looks for text that its font keeps from the page.

    Args:
        page: pdfium's, open.
        pixels: (H, W, 3) uint8, the page as it was drawn.
    """
    absent = _absent_fonts(page)
    text = pdfium.FPDFText_LoadPage(page) if absent else None
    if not text:
        return LostText()
    try:
        step = max(1, -(-pdfium.FPDFText_CountChars(text) // MOST_CHARACTERS))
        area, lost = _without_outline(page, text, step, pixels, absent)
    finally:
        pdfium.FPDFText_ClosePage(text)
    lost, pictures = _that_would_be_seen(page, lost) if lost else ([], 0.0)
    if not lost:
        return LostText()
    all_there_is = area + pictures / step  # 0 where the characters have no area: nothing that is seen is lost
    share = sum(character.box.area for character in lost) / all_there_is if all_there_is else 0.0
    if share < LEAST:
        return LostText()
    fonts = Counter(character.font for character in lost).most_common(MOST_FONTS)
    return LostText(share, tuple(name for name, _ in fonts))


def _absent_fonts(page: Any) -> dict[int, str]:
    """Names of the fonts that are not in the file, by address; of text that is seen."""
    names: dict[int, str] = {}
    for placed in objects_of(page, MOST_OBJECTS):
        if placed.kind == pdfium.FPDF_PAGEOBJ_TEXT and has_ink(placed.object):
            font = pdfium.FPDFTextObj_GetFont(placed.object)
            address = _address(font)
            if address and address not in names:
                names[address] = "" if pdfium.FPDFFont_GetIsEmbedded(font) else _name_of(font)
            if names.get(address):
                _widen(placed.object)
    return {address: name for address, name in names.items() if name}


def _widen(found: Any) -> None:
    """Gives a pen's width to text that has none, such as a single character without outline.

    pdfium passes over what is not wide when it says which characters there are. It measures anew what is transformed.
    """
    box = _Box(*bounds_of(found))
    if box.right - box.left < _NARROW:
        pdfium.FPDFTextObj_SetTextRenderMode(found, pdfium.FPDF_TEXTRENDERMODE_FILL_STROKE)
        pdfium.FPDFPageObj_SetStrokeWidth(found, 1.0)
        pdfium.FPDFPageObj_Transform(found, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


def _without_outline(
    page: Any, text: Any, step: int, pixels: Pixels, absent: dict[int, str]
) -> tuple[float, list[_Lost]]:
    """The area of the characters, pt^2, and those that leave nothing on the page."""
    area, lost = 0.0, []
    for index in range(0, pdfium.FPDFText_CountChars(text), step):
        code = pdfium.FPDFText_GetUnicode(text, index)
        if code < 0x110000 and unicodedata.category(chr(code)) in _NO_INK:
            continue
        found = pdfium.FPDFText_GetTextObject(text, index)
        if not found or not has_ink(found):  # none: pdfium put it between two words
            continue
        box, place = _place(page, text, index, pixels)
        if not place.size:
            continue
        area += box.area
        font = absent.get(_address(pdfium.FPDFTextObj_GetFont(found)))
        if font and _is_flat(text, index) and _is_bare(text, index, place):
            lost.append(_Lost(box, _address(found), font))
    return area, lost


def _place(page: Any, text: Any, index: int, pixels: Pixels) -> tuple[_Box, Pixels]:
    """A character's box, and what is drawn in the middle of it: nothing beside the page."""
    loose = pdfium.FS_RECTF()
    pdfium.FPDFText_GetLooseCharBox(text, index, loose)
    box = _Box(loose.left, loose.bottom, loose.right, loose.top)
    across, down = (box.right - box.left) * _EDGE, (box.top - box.bottom) * _EDGE
    height, width = pixels.shape[:2]
    x, y = (ctypes.c_int(), ctypes.c_int()), (ctypes.c_int(), ctypes.c_int())
    for one, corner in enumerate(
        ((box.left + across, box.bottom + down), (box.right - across, box.top - down)),
    ):
        pdfium.FPDF_PageToDevice(page, 0, 0, width, height, 0, *corner, x[one], y[one])
    (left, right), (top, bottom) = (sorted((one.value, other.value)) for one, other in (x, y))
    return box, pixels[max(0, top) : max(0, bottom + 1), max(0, left) : max(0, right + 1)]


def _is_flat(text: Any, index: int) -> bool:
    """Whether a character has no outline; of text that is neither level nor upright that is not known."""
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    pdfium.FPDFText_GetCharBox(text, index, left, right, bottom, top)
    matrix = pdfium.FS_MATRIX()
    pdfium.FPDFText_GetMatrix(text, index, matrix)
    if abs(matrix.b) <= _UPRIGHT * abs(matrix.a):
        high, scale = top.value - bottom.value, abs(matrix.d)
    elif abs(matrix.a) <= _UPRIGHT * abs(matrix.b):
        high, scale = right.value - left.value, abs(matrix.c)
    else:
        return False
    return bool(high <= _FLAT * scale * pdfium.FPDFText_GetFontSize(text, index))


def _is_bare(text: Any, index: int, place: Pixels) -> bool:
    """Whether a place is of one colour, and that is not the text's."""
    low, high = place.min(axis=(0, 1)).astype(np.int16), place.max(axis=(0, 1)).astype(np.int16)
    if (high - low).max() > _EVEN:
        return False
    red, green, blue, alpha = (ctypes.c_uint() for _ in range(4))
    pdfium.FPDFText_GetFillColor(text, index, red, green, blue, alpha)
    return bool(alpha.value and np.abs(low - (red.value, green.value, blue.value)).max() > _SAME)


def _that_would_be_seen(page: Any, lost: list[_Lost]) -> tuple[list[_Lost], float]:
    """Those that nothing cuts off or covers, and that are in no layer; and the area of all pictures, pt^2."""
    objects = list(objects_of(page, MOST_OBJECTS))
    numbers = {_address(placed.object): number for number, placed in enumerate(objects)}
    covers, pictures = [], 0.0
    for number, placed in enumerate(objects):
        if _covers(placed):
            box = _on_page(_Box(*bounds_of(placed.object)), placed.outer)
            covers.append((number, *box))
            pictures += box.area if placed.kind == pdfium.FPDF_PAGEOBJ_IMAGE else 0.0
    over, left, bottom, right, top = np.array(covers).reshape(-1, 5).T
    shown: dict[int, _Box | None] = {}
    seen = []
    for character in lost:
        number = numbers.get(character.object, -1)
        if number not in shown:
            shown[number] = _shown_part(objects[number]) if number >= 0 else None
        part = shown[number]
        x, y = (character.box.left + character.box.right) / 2, (character.box.bottom + character.box.top) / 2
        if part is None or not (part.left <= x <= part.right and part.bottom <= y <= part.top):
            continue
        if not ((over > number) & (left <= x) & (x <= right) & (bottom <= y) & (y <= top)).any():
            seen.append(character)
    return seen, min(pictures, _bounds_of_page(page).area)


def _covers(placed: Placed) -> bool:
    """Whether nothing that lies below an object is seen; of a path, within its bounds."""
    if placed.kind not in _COVERS or pdfium.FPDFPageObj_HasTransparency(placed.object):
        return False
    if placed.kind != pdfium.FPDF_PAGEOBJ_PATH:
        return True
    fill, stroke = ctypes.c_int(), ctypes.c_int()
    return bool(pdfium.FPDFPath_GetDrawMode(placed.object, fill, stroke) and fill.value)


def _is_in_layer(found: Any) -> bool:
    """Whether it stands in marked content of the tag OC, ISO 32000-1, 8.11.3.2; pdfium does not tell which are off."""
    for number in range(pdfium.FPDFPageObj_CountMarks(found)):
        name, size = ctypes.create_string_buffer(16), ctypes.c_ulong()
        mark = pdfium.FPDFPageObj_GetMark(found, number)
        letters = ctypes.cast(name, ctypes.POINTER(ctypes.c_ushort))
        if pdfium.FPDFPageObjMark_GetName(mark, letters, 16, size) and name.raw[: size.value] == b"O\0C\0\0\0":
            return True
    return False


def _on_page(box: _Box, outer: Matrix) -> _Box:
    across, up = zip(*through(outer, *box), strict=True)
    return _Box(min(across), min(up), max(across), max(up))


def _bounds_of_page(page: Any) -> _Box:
    return _Box(0.0, 0.0, pdfium.FPDF_GetPageWidthF(page), pdfium.FPDF_GetPageHeightF(page))


def _shown_part(placed: Placed) -> _Box | None:
    """What the clipping paths of an object and its forms leave, by their bounds; None where a layer may be off."""
    left, bottom, right, top = -math.inf, -math.inf, math.inf, math.inf
    for holder in (*placed.forms, placed):
        if _is_in_layer(holder.object):
            return None
        clip = pdfium.FPDFPageObj_GetClipPath(holder.object)
        paths = pdfium.FPDFClipPath_CountPaths(clip) if clip else 0
        for path in range(max(0, paths - MOST_PATHS), paths):
            if points := _points_of(clip, path):
                across, down = zip(*points, strict=True)
                box = _on_page(_Box(min(across), min(down), max(across), max(down)), holder.outer)
                left, bottom = max(left, box.left), max(bottom, box.bottom)
                right, top = min(right, box.right), min(top, box.top)
    return _Box(left, bottom, right, top)


def _points_of(clip: Any, path: int) -> list[tuple[float, float]]:
    points = []
    x, y = ctypes.c_float(), ctypes.c_float()
    for number in range(min(MOST_POINTS, pdfium.FPDFClipPath_CountPathSegments(clip, path))):
        pdfium.FPDFPathSegment_GetPoint(pdfium.FPDFClipPath_GetPathSegment(clip, path, number), x, y)
        points.append((x.value, y.value))
    return points


def _address(pointer: Any) -> int:
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


def _name_of(font: Any) -> str:
    """As the file has it: of East Asian ones in their old codes, too."""
    size = pdfium.FPDFFont_GetBaseFontName(font, None, 0)
    buffer = ctypes.create_string_buffer(max(1, size))
    pdfium.FPDFFont_GetBaseFontName(font, buffer, size)
    return printable(buffer.value.decode("utf-8", "backslashreplace"))[:LONGEST_NAME] or "a font without a name"
