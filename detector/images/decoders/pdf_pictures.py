"""Pictures that pdfium left out of a page it drew, or drew in part: it says neither.

A scan in a PDF is a picture on an empty page. Where its data are cut off, or need more memory than there is, the page
stays white, and would be a blank page, "ok". So each picture's data are asked whether they come to their end
(`pdf_data`). Where they do not, or its place on the page has an edge of one colour, it is looked at again: JPEG as
files of their own are, packed rows by counting them, others by asking pdfium for the picture alone, or for the page on
other paper. An ordinary scan is not: its JPEG has an end mark, and its edges have grain.
What the page would not show is no loss (`pdf_seen`); masks are looked at as pictures of their own (`pdf_masks`).
"""

from __future__ import annotations

import heapq
import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import pypdfium2

from detector.errors import ImageError
from detector.images.budget import estimate_bytes
from detector.images.decoders.damage import Pixels
from detector.images.decoders.jpeg import decode_jpeg
from detector.images.decoders.pdf_alone import is_affordable, is_transparent, unpacks, unpacks_to_one_colour
from detector.images.decoders.pdf_data import ROWS, ZERO_IS_BLACK, Asking, has_end, rows_share
from detector.images.decoders.pdf_masks import Masked, as_pdf, masks_on
from detector.images.decoders.pdf_objects import (
    Picture,
    bits_of,
    filters_of,
    pictures_on,
    shows_text,
    size_of,
    stored,
    stored_bytes,
    within,
)
from detector.images.decoders.pdf_seen import seen_shares
from detector.images.decoders.places import MOSTLY, has_even_edge, has_even_half, is_even, is_framed
from detector.images.header import read_header

MOST_LOOKED_AT = 300
"""Of a page's pictures, the largest: 3,000 tiles of one colour took 11 s."""

PAPER = (255, 0, 255)
"""A colour that no page has, to see what was drawn of it."""

_HELD = {"JPXDecode": 20, "DCTDecode": 6}  # bytes a pixel at most, of what is unpacked whole; `budget` has it so
_ONE_BIT = ("CCITTFaxDecode", "JBIG2Decode")
_NOTHING = 0.001  # of a page: what is no loss
_WHITE = 250
_SMALL_SIDE = 256  # pixels, to which a JPEG is decoded to see how much of it comes
_ALIKE = 4  # pictures of a page that have one size, in pixels and as they are stored, and masks of their own
_COPIES = 4  # of a JPEG's data are held while it is looked at


@dataclass(frozen=True, slots=True)
class Unread:
    """What is missing of a drawn page.

    Attributes:
        share: of its area.
        reason: of what is missing most.
        beside: whether there is text on the page that is no picture, and is seen.
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
        file: the document's, for masks.
        number: of the page, from 0.
    """

    document: Any
    page: Any
    pixels: Pixels
    name: str
    max_bytes: int
    redraw: Callable[[], Pixels]
    make_room: Callable[[int], None] | None = None
    file: BinaryIO | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class _Loss:
    """Attributes: a picture, what is missing of it (pixels of the page), the reason, the memory (bytes) it is for."""

    picture: Picture
    area: float
    reason: str
    needed: int


def unread(drawn: Drawn) -> Unread:
    """Looks for pictures that are not, or not wholly, on the page."""
    height, width = drawn.pixels.shape[:2]
    pictures = pictures_on(drawn.page, width, height)
    looked_at = heapq.nlargest(MOST_LOOKED_AT, pictures, key=lambda picture: picture.area)
    asking = Asking(drawn.max_bytes, drawn.max_bytes // _COPIES)
    losses = [_loss(drawn, found, asking) for found in looked_at]
    lost = [loss for loss in losses if loss.area]
    lost += _lost_masks(drawn, [loss.picture for loss in losses if not loss.area])
    if lost:  # as far as it would be seen
        seen = seen_shares(drawn.page, [loss.picture for loss in lost], drawn.redraw)
        lost = [
            replace(loss, area=min(loss.area, loss.picture.area * part)) for loss, part in zip(lost, seen, strict=True)
        ]
    share = min(1.0, sum(loss.area for loss in lost) / (width * height))
    if share <= _NOTHING:
        return Unread()
    worst = max(lost, key=lambda loss: loss.area)
    return Unread(share, worst.reason, shows_text(drawn.page, drawn.pixels), worst.needed)


def _loss(drawn: Drawn, picture: Picture, asking: Asking) -> _Loss:
    share, needed = _share_read(drawn, picture, asking)
    why = f"needs about {needed >> 20} MiB to decode" if needed else "is damaged, or cannot be drawn"
    return _Loss(picture, picture.area * (1.0 - share), f"{_described(picture)} {why}", needed)


def _described(picture: Picture) -> str:
    wide, high = size_of(picture.object)
    return f"a picture of {wide}x{high} on it ({'+'.join(filters_of(picture.object)) or 'raw'})"


def _lost_masks(drawn: Drawn, pictures: list[Picture]) -> list[_Loss]:
    """What is missing of pictures whose data are whole, and their masks' are not: of one colour, or half of it."""
    least = _NOTHING * drawn.pixels.shape[0] * drawn.pixels.shape[1]
    suspect = [found for found in pictures if found.area > least and has_even_half(found.place(drawn.pixels))]
    if not suspect or drawn.file is None:
        return []
    masks, lost = masks_on(drawn.file, drawn.number, drawn.max_bytes // _COPIES), []
    for found in suspect if masks else ():
        known = Masked(*size_of(found.object), stored_bytes(found.object))
        own = masks.get(known, ())
        # Several pictures may look the same, and one of them have the mask that is whole.
        share = max((_mask_share(drawn, mask) for mask in own), default=1.0) if len(own) <= _ALIKE else 1.0
        if share < 1.0:
            reason = f"the mask of {_described(found)} is damaged, or cannot be read"
            lost.append(_Loss(found, found.area * (1.0 - share), reason, 0))
    return lost


def _mask_share(drawn: Drawn, mask: Any) -> float:
    """Of a mask's rows; 1 where that is not known."""
    try:
        document = pypdfium2.PdfDocument(as_pdf(mask))
        page = document[0]
    except Exception:  # of pypdf any class, MemoryError too
        return 1.0
    try:
        found = next((picture.object for picture in pictures_on(page.raw, 100, 100)), None)
        return 1.0 if found is None else _data_share(page.raw, found, drawn.name, drawn.max_bytes)
    finally:
        document.close()


def _data_share(page: Any, found: Any, name: str, max_bytes: int) -> float:
    """Of a picture's rows, wherever it lies."""
    filters = filters_of(found)
    if ROWS.issuperset(filters):
        return rows_share(page, found, max_bytes)
    wide, high = size_of(found)
    if wide * high * _HELD.get(filters[-1], 0) > max_bytes or not is_affordable(found, max_bytes):
        return 1.0
    if not unpacks(found):
        return 0.0
    data = stored(found, max_bytes // _COPIES, raw=len(filters) == 1) if filters[-1] == "DCTDecode" else None
    return 1.0 if data is None else _jpeg_share(found, data, name, max_bytes, even=False)


def _share_read(drawn: Drawn, picture: Picture, asking: Asking) -> tuple[float, int]:
    """What is there of a picture, and the memory (bytes) for want of which it is not."""
    page, found, max_bytes = drawn.page, picture.object, drawn.max_bytes
    if not stored_bytes(found):
        return 0.0, 0
    place = picture.place(drawn.pixels)
    filters = filters_of(found)
    kind = filters[-1] if filters else ""
    if ROWS.issuperset(filters):  # what is missing is drawn as zeros
        short = asking.falls_short(found)
        if short is None:
            short = has_even_edge(place, _zero(page, found), MOSTLY)
        return (rows_share(page, found, max_bytes) if short else 1.0), 0
    even = has_even_edge(place)
    short = not (even and kind == "DCTDecode") and asking.falls_short(found)
    wide, high = size_of(found)
    # To unpack such a picture again is dear; where its data have no end, that tells, whatever lies on its edges.
    dear = 0 < wide * high * _HELD.get(kind, 0) <= max_bytes
    if not short and not even and (dear or not is_framed(place, share=MOSTLY)):
        return 1.0, 0
    data = stored(found, max_bytes // _COPIES, raw=len(filters) == 1) if kind == "DCTDecode" else None
    needed = _held_bytes(data, drawn.name) if data is not None else wide * high * _HELD.get(kind, 0)
    if is_framed(place, share=1.0 if dear or (kind in _HELD and needed <= max_bytes) else MOSTLY):
        if needed > max_bytes:
            # Not drawn by itself: pdfium ends the process where there is no memory for a picture. In its place on the
            # page there is the paper (JPEG 2000), or nothing but black (progressive JPEG).
            dark = place[0, 0].min() < _WHITE and is_even(place)
            if not dark and not is_framed(within(drawn.redraw(), picture), PAPER, MOSTLY):
                return 1.0, 0
            if drawn.make_room:
                drawn.make_room(needed)
            return 0.0, needed
        if is_transparent(drawn.document, page, found):
            if needed and drawn.make_room:
                drawn.make_room(needed)
            if not is_affordable(found, max_bytes):  # too little memory to be sure by itself
                left_out = kind not in _ONE_BIT and is_framed(within(drawn.redraw(), picture), PAPER, MOSTLY)
                return (0.0 if left_out else 1.0), 0
            return (1.0 if unpacks(found) else 0.0), 0  # a mask of nothing, such as a blank page's
    if data is None:
        lost = short and needed <= max_bytes and is_affordable(found, max_bytes) and not unpacks(found)
        return (0.0 if lost else 1.0), 0
    # White edges are margins of most scans. What libjpeg guesses where data are missing is seldom white.
    even = is_even(place)
    suspect = even or not has_end(data) or has_even_edge(place, _WHITE)
    return (_jpeg_share(found, data, drawn.name, max_bytes, even=even) if suspect else 1.0), 0


def _zero(page: Any, found: Any) -> int:
    """Up to which level rows of zeros may be drawn: not white where zero is black. Most scans have white margins."""
    bits, colours = bits_of(page, found)
    return _WHITE if bits >= 8 and colours in ZERO_IS_BLACK else 256


def _held_bytes(data: memoryview, name: str) -> int:
    """What a progressive JPEG needs; 0 where it is none, or damaged."""
    try:
        return read_header(io.BytesIO(data), "jpeg", name).held_bytes
    except ImageError:
        return 0


def _jpeg_share(found: Any, data: memoryview, name: str, max_bytes: int, *, even: bool) -> float:
    """Of a JPEG's rows, as far as the PDF says there are so many: it may have been written before they were counted."""
    file, height = io.BytesIO(data), size_of(found)[1]
    try:
        header = read_header(file, "jpeg", name)
        if header.height > height > 0:
            header = read_header(file := io.BytesIO(_of_height(data, header.height, height)), "jpeg", name)
    except ImageError:
        # of a kind that is not read here; pdfium may draw it
        return 0.0 if is_affordable(found, max_bytes) and not unpacks(found) else 1.0
    if estimate_bytes(header, _SMALL_SIDE) > max_bytes:
        return 1.0  # pdfium had the memory for it, or it would have been left out
    scale = min(1.0, _SMALL_SIDE / max(header.width, header.height))
    target = (math.ceil(header.width * scale), math.ceil(header.height * scale))
    try:
        decoded = decode_jpeg(file, header, target, name)
    except ImageError:
        return 0.0
    if (
        even
        and not is_even(decoded.pixels)
        and not (is_affordable(found, max_bytes) and not unpacks_to_one_colour(found))
    ):
        return 0.0  # of a kind that is read here, and that pdfium does not draw: arithmetic coding
    return 1.0 if decoded.share is None else decoded.share


def _of_height(data: memoryview, before: int, height: int) -> bytes:
    """The JPEG with another height in its frame header; ITU-T T.81, B.2.2."""
    whole = bytes(data)
    frame = re.search(rb"\xff[\xc0-\xc3]..." + re.escape(before.to_bytes(2, "big")), whole, re.DOTALL)
    if frame is None:
        return whole
    return whole[: frame.end() - 2] + height.to_bytes(2, "big") + whole[frame.end() :]
