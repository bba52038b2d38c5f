"""Pictures that pdfium left out of a page it drew, or drew in part: it says neither.

A scan in a PDF is a picture on an empty page. Where its data are cut off, or need more memory than there is, the page
stays white, and would be a blank page, "ok". So each picture whose place on the page is of one colour, or has an edge
of one colour, is looked at again: JPEG as files of their own are, packed rows by counting them, others by asking
pdfium for the picture alone, or for the page on other paper. An ordinary scan is not: its edges have grain.
"""

from __future__ import annotations

import ctypes
import heapq
import io
import math
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pypdfium2.raw as pdfium

from detector.errors import ImageError
from detector.images.budget import estimate_bytes
from detector.images.decoders.damage import Pixels
from detector.images.decoders.jpeg import decode_jpeg
from detector.images.decoders.pdf_objects import (
    Picture,
    bits_of,
    filters_of,
    matrix_of,
    objects_on,
    size_of,
    stored,
    unpacked_bytes,
)
from detector.images.header import read_header

MOST_DATA = 64 << 20
"""Of packed rows, bytes as they are stored; what is more is not looked at."""

MOST_UNPACKED = 1 << 30
"""Bytes of a picture."""

MOST_DRAWN = 16_000_000
"""Points of a picture's own matrix: it is drawn a pixel a point to see whether anything is left of it."""

MOST_LOOKED_AT = 300
"""Of a page's pictures, the largest: 3,000 tiles of one colour took 11 s."""

PAPER = (255, 0, 255)
"""A colour that no page has, to see what was drawn of it."""

_PIECE = 1 << 16  # bytes, that are unpacked at a time
_HELD = {"JPXDecode": 20, "DCTDecode": 6}  # bytes a pixel at most, of what is unpacked whole; `budget` has it so
_ZERO_IS_BLACK = (
    *(pdfium.FPDF_COLORSPACE_DEVICEGRAY, pdfium.FPDF_COLORSPACE_DEVICERGB),
    *(pdfium.FPDF_COLORSPACE_CALGRAY, pdfium.FPDF_COLORSPACE_CALRGB),
)
_ROWS = frozenset(("ASCII85Decode", "ASCIIHexDecode", "FlateDecode", "LZWDecode", "RunLengthDecode"))
_ONE_BIT = ("CCITTFaxDecode", "JBIG2Decode")
_BITMAP = 5  # bytes a pixel, of a picture that is asked for alone
_NOTHING = 0.001  # of a page: what is no loss
_BAND = 0.03  # of a place's rows or columns: an edge
_WHITE = 250
_SOME = 24  # rows and columns
_NEARLY = 2  # levels that one colour may differ by
_SMALL_SIDE = 256  # pixels, to which a JPEG is decoded to see how much of it comes
_END, _END_WITHIN = b"\xff\xd9", 1024  # of a JPEG; padding may follow it
_COPIES = 4  # of a JPEG's data are held while it is looked at


@dataclass(frozen=True, slots=True)
class Unread:
    """What is missing of a drawn page.

    Attributes:
        share: of its area.
        reason: of what is missing most.
        beside: whether there is text on the page that is no picture.
        needed: memory (bytes) for want of which that was left out; 0: it is damaged.
    """

    share: float = 0.0
    reason: str = ""
    beside: bool = False
    needed: int = 0


@dataclass(frozen=True, slots=True)
class Drawn:
    """A page that was drawn.

    Attributes:
        document: pdfium's.
        page: of it, open.
        pixels: (H, W, 3) uint8.
        name: for messages.
        max_bytes: memory that decoding a picture may take, bytes.
        redraw: draws it again, on `PAPER`.
        make_room: called with the memory (bytes) of a picture that was left out for want of it.
    """

    document: Any
    page: Any
    pixels: Pixels
    name: str
    max_bytes: int
    redraw: Callable[[], Pixels]
    make_room: Callable[[int], None] | None = None


def unread(drawn: Drawn) -> Unread:
    """Looks for pictures that are not, or not wholly, on the page."""
    height, width = drawn.pixels.shape[:2]
    missing, worst, reason, memory = 0.0, 0.0, "", 0
    found_all = list(objects_on(drawn.page, width, height))
    pictures = [found for found in found_all if found]
    beside = len(pictures) < len(found_all)
    for found in heapq.nlargest(MOST_LOOKED_AT, pictures, key=lambda picture: picture.area):
        share, needed = _share_read(drawn, found)
        lost = found.area * (1.0 - share)
        if lost > worst:
            wide, high = size_of(found.object)
            worst, memory = lost, needed
            kind = "+".join(filters_of(found.object)) or "raw"
            why = f"needs about {needed >> 20} MiB to decode" if needed else "is damaged, or cannot be drawn"
            reason = f"a picture of {wide}x{high} on it ({kind}) {why}"
        missing += lost
    share = min(1.0, missing / (width * height))
    return Unread(share if share > _NOTHING else 0.0, reason, beside, memory)


def _share_read(drawn: Drawn, picture: Picture) -> tuple[float, int]:
    """What is there of a picture, and the memory (bytes) for want of which it is not."""
    page, found, max_bytes = drawn.page, picture.object, drawn.max_bytes
    place = drawn.pixels[picture.top : picture.bottom, picture.left : picture.right]
    if not _has_even_edge(place):
        return 1.0, 0
    filters = filters_of(found)
    kind = filters[-1] if filters else ""
    if _ROWS.issuperset(filters):  # always drawn; what is missing is drawn as zeros
        dark = _has_even_edge(place, _zero(page, found))
        return (_rows_share(page, found, filters, max_bytes) if dark else 1.0), 0
    data = stored(found, max_bytes // _COPIES, raw=len(filters) == 1) if kind == "DCTDecode" else None
    wide, high = size_of(found)
    needed = _held_bytes(data, drawn.name) if data is not None else wide * high * _HELD.get(kind, 0)
    if _is_framed(place):
        if needed > max_bytes:
            # Not drawn by itself: pdfium ends the process where there is no memory for a picture. In its place on the
            # page there is the paper (JPEG 2000), or nothing but black (progressive JPEG).
            dark = place[0, 0].min() < _WHITE and _is_even(place)
            if not dark and not _is_framed(_within(drawn.redraw(), picture), PAPER):
                return 1.0, 0
            if drawn.make_room:
                drawn.make_room(needed)
            return 0.0, needed
        if _is_transparent(drawn, found, place):
            if needed and drawn.make_room:
                drawn.make_room(needed)
            if wide * high * _BITMAP > max_bytes:  # too little memory to be sure by itself
                left_out = kind not in _ONE_BIT and _is_framed(_within(drawn.redraw(), picture), PAPER)
                return (0.0 if left_out else 1.0), 0
            return (1.0 if _unpacks(found) else 0.0), 0  # a mask of nothing, such as a blank page's
    if data is None:
        return 1.0, 0
    # White edges are margins of most scans. What libjpeg guesses where data are missing is seldom white.
    even = _is_even(place)
    suspect = even or _END not in bytes(data[-_END_WITHIN:]) or _has_even_edge(place, _WHITE)
    return (_jpeg_share(data, high, drawn.name, max_bytes, even=even) if suspect else 1.0), 0


def _within(pixels: Pixels, picture: Picture) -> Pixels:
    """A picture's place, less a pixel all around where it has more: a page drawn again may be one larger or smaller."""
    inset = 1 if min(picture.right - picture.left, picture.bottom - picture.top) > 8 else 0
    return pixels[picture.top + inset : picture.bottom - inset, picture.left + inset : picture.right - inset]


def _zero(page: Any, found: Any) -> int:
    """Up to which level rows of zeros may be drawn: not white where zero is black. Most scans have white margins."""
    bits, colours = bits_of(page, found)
    return _WHITE if bits >= 8 and colours in _ZERO_IS_BLACK else 256


def _held_bytes(data: memoryview, name: str) -> int:
    """What a progressive JPEG needs; 0 where it is none, or damaged."""
    try:
        return read_header(io.BytesIO(data), "jpeg", name).held_bytes
    except ImageError:
        return 0


def _is_transparent(drawn: Drawn, found: Any, place: Pixels) -> bool:
    """Whether a picture leaves nothing where it is drawn by itself, a pixel a point; else its place tells."""
    a, b, c, d, _, _ = matrix_of(found)
    if math.hypot(a, b) * math.hypot(c, d) > MOST_DRAWN:
        return False
    bitmap = pdfium.FPDFImageObj_GetRenderedBitmap(drawn.document, drawn.page, found)
    if not bitmap:
        return _is_even(place)
    try:
        if pdfium.FPDFBitmap_GetFormat(bitmap) not in (pdfium.FPDFBitmap_BGRA, pdfium.FPDFBitmap_BGRA_Premul):
            return False
        height, stride = pdfium.FPDFBitmap_GetHeight(bitmap), pdfium.FPDFBitmap_GetStride(bitmap)
        data = ctypes.cast(pdfium.FPDFBitmap_GetBuffer(bitmap), ctypes.POINTER(ctypes.c_ubyte))
        return not np.ctypeslib.as_array(data, (height, stride))[:, 3::4].any()
    finally:
        pdfium.FPDFBitmap_Destroy(bitmap)


def _unpacks(found: Any) -> bool:
    bitmap = pdfium.FPDFImageObj_GetBitmap(found)
    if bitmap:
        pdfium.FPDFBitmap_Destroy(bitmap)
    return bool(bitmap)


def _jpeg_share(data: memoryview, height: int, name: str, max_bytes: int, *, even: bool) -> float:
    """Of a JPEG's rows, as far as the PDF says there are so many: it may have been written before they were counted."""
    file = io.BytesIO(data)
    try:
        header = read_header(file, "jpeg", name)
        if header.height > height > 0:
            header = read_header(file := io.BytesIO(_of_height(data, header.height, height)), "jpeg", name)
    except ImageError:
        return 1.0  # of a kind that pdfium draws, and that is not read here
    if estimate_bytes(header, _SMALL_SIDE) > max_bytes:
        return 1.0  # pdfium had the memory for it, or it would have been left out
    scale = min(1.0, _SMALL_SIDE / max(header.width, header.height))
    target = (math.ceil(header.width * scale), math.ceil(header.height * scale))
    try:
        decoded = decode_jpeg(file, header, target, name)
    except ImageError:
        return 0.0
    if even and not _is_even(decoded.pixels):
        return 0.0  # of a kind that is read here, and that pdfium does not draw: arithmetic coding
    return 1.0 if decoded.share is None else decoded.share


def _of_height(data: memoryview, before: int, height: int) -> bytes:
    """The JPEG with another height in its frame header; ITU-T T.81, B.2.2."""
    whole = bytes(data)
    frame = re.search(rb"\xff[\xc0-\xc3]..." + re.escape(before.to_bytes(2, "big")), whole, re.DOTALL)
    if frame is None:
        return whole
    return whole[: frame.end() - 2] + height.to_bytes(2, "big") + whole[frame.end() :]


def _rows_share(page: Any, found: Any, filters: list[str], max_bytes: int) -> float:
    """Of the bytes that a picture of this size has, those that are there; 1 where its packed data come to their end."""
    wide, high = size_of(found)
    if filters == ["FlateDecode"]:
        data = stored(found, MOST_DATA, raw=True)
        if data is None:
            return 1.0
        count, ended = _unpacked(data)
    elif wide * high * 4 <= max_bytes:
        count, ended = unpacked_bytes(found), False
    else:
        return 1.0
    sizes = [-(-wide * bits // 8) * high for bits in (1, 2, 4, bits_of(page, found)[0])]
    # pdfium says 8 bits of a picture that has fewer, and a palette. A filter before the packing adds a byte a row.
    if ended or count in sizes or count - high in sizes:
        return 1.0
    return min(1.0, count / max(1, sizes[-1]))


def _unpacked(data: memoryview) -> tuple[int, bool]:
    """Bytes that come out, up to a fault, and whether that is all of them; of a picture as large as any.

    Without the check sum at its end, which pdfium does not ask for either: some writers get it wrong.
    """
    if len(data) < 2 or data[0] & 15 != zlib.DEFLATED or (data[0] << 8 | data[1]) % 31:
        return 0, False
    unpacker, count = zlib.decompressobj(-zlib.MAX_WBITS), 0
    try:
        for begin in range(2, len(data), _PIECE):
            rest: bytes | memoryview = data[begin : begin + _PIECE]
            while rest and not unpacker.eof and count < MOST_UNPACKED:
                count += len(unpacker.decompress(rest, _PIECE))
                rest = unpacker.unconsumed_tail
    except zlib.error:
        return count, False
    return count, unpacker.eof or count >= MOST_UNPACKED


def _is_even(pixels: Pixels) -> bool:
    """Whether they are all of one colour; some of them tell of most places that they are not."""
    some = pixels[:: max(1, len(pixels) // _SOME), :: max(1, pixels.shape[1] // _SOME)]
    return all(
        bool((part.max(axis=(0, 1)).astype(np.int16) - part.min(axis=(0, 1)) <= _NEARLY).all())
        for part in (some, pixels)
    )


def _edges(place: Pixels) -> list[Pixels]:
    rows, columns = (max(1, int(side * _BAND)) for side in place.shape[:2])
    return [place[:rows], place[-rows:], place[:, :columns], place[:, -columns:]]


def _has_even_edge(place: Pixels, darker_than: int = 256) -> bool:
    return any(edge[0, 0].min() < darker_than and _is_even(edge) for edge in _edges(place))


def _is_framed(place: Pixels, colour: tuple[int, int, int] | None = None) -> bool:
    """Whether each edge is of one colour: that of what a picture lies on, perhaps, with other things on it."""
    if not place.size:  # a page drawn again may be a pixel smaller
        return False
    return all(_is_even(edge) and colour in (None, tuple(edge[0, 0].tolist())) for edge in _edges(place))
