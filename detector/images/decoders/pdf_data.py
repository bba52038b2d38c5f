"""Whether the data of a PDF's picture come to their end, whatever the page looks like where it lies.

A number, a line or a stamp on the edge of a scan hides that the rows below are missing. To ask its data is cheap: a
JPEG's end mark is in its last bytes, and rows that are packed are counted.
"""

from __future__ import annotations

import zlib
from typing import Any

import pypdfium2.raw as pdfium

from detector.images.decoders.pdf_alone import is_affordable, unpacks
from detector.images.decoders.pdf_objects import bits_of, filters_of, size_of, stored, stored_bytes, unpacked_bytes

MOST_DATA = 64 << 20
"""Of packed rows, bytes as they are stored; what is more is not looked at."""

MOST_UNPACKED = 1 << 30
"""Bytes of a picture."""

MOST_ASKED = 64 << 20
"""Bytes of a page's data that are asked without a sign on the page, as stored (JPEG) or unpacked (rows)."""

ROWS = frozenset(("ASCII85Decode", "ASCIIHexDecode", "FlateDecode", "LZWDecode", "RunLengthDecode"))
"""Filters of rows; pdfium unpacks them whole, and draws what is missing as zeros, or nothing."""

ZERO_IS_BLACK = (
    *(pdfium.FPDF_COLORSPACE_DEVICEGRAY, pdfium.FPDF_COLORSPACE_DEVICERGB),
    *(pdfium.FPDF_COLORSPACE_CALGRAY, pdfium.FPDF_COLORSPACE_CALRGB),
)
"""Colour spaces, by pdfium's numbers."""

_KNOWN = ROWS | {"CCITTFaxDecode", "JBIG2Decode", "DCTDecode", "JPXDecode", "Crypt"}
_PIECE = 1 << 16  # bytes, that are unpacked at a time
_END_MARKED = ("DCTDecode", "JPXDecode")
_END = b"\xff\xd9"  # EOI of a JPEG, EOC of JPEG 2000
_END_WITHIN = 1024  # bytes; padding may follow
_DEPTHS = (1, 2, 4, 8, 16)  # bits a channel
_ANY_CHANNELS = (1, 2, 3, 4)  # of ICC colours, inks and what is not known
_CHANNELS = {
    **dict.fromkeys((pdfium.FPDF_COLORSPACE_DEVICEGRAY, pdfium.FPDF_COLORSPACE_CALGRAY), (1,)),
    **dict.fromkeys((pdfium.FPDF_COLORSPACE_SEPARATION, pdfium.FPDF_COLORSPACE_INDEXED), (1,)),
    **dict.fromkeys((pdfium.FPDF_COLORSPACE_DEVICERGB, pdfium.FPDF_COLORSPACE_CALRGB), (3,)),
    pdfium.FPDF_COLORSPACE_LAB: (3,),
    pdfium.FPDF_COLORSPACE_DEVICECMYK: (4,),
}
_BITS = (1, 8, 24, 32)  # a pixel, of nearly all pictures
_MOST_BYTES = 8
_PADDING = 64  # bytes behind the rows, that writers put there, beside a row or a byte a row


class Asking:
    """Asks a page's pictures for the end of their data, up to `MOST_ASKED` bytes of all of them."""

    def __init__(self, max_bytes: int, copy_bytes: int) -> None:
        """Args: memory that unpacking a picture may take, and that a copy of its data may, bytes."""
        self._left = MOST_ASKED
        self._max_bytes, self._copy_bytes = max_bytes, copy_bytes

    def falls_short(self, found: Any) -> bool | None:
        """Whether a picture's data seem to lack their end; None where that is not asked."""
        filters, size = filters_of(found), stored_bytes(found)
        if not size or not _KNOWN.issuperset(filters):
            return True
        if ROWS.issuperset(filters):
            return self._rows_fall_short(found, filters, size)
        most = min(self._left, self._copy_bytes)
        data = stored(found, most, raw=len(filters) == 1) if filters[-1] in _END_MARKED and size <= most else None
        if data is None:
            return None
        self._left -= len(data)
        return not has_end(data)

    def _rows_fall_short(self, found: Any, filters: list[str], size: int) -> bool | None:
        wide, high = size_of(found)
        if "RunLengthDecode" in filters:  # pdfium draws all of it or nothing
            if not is_affordable(found, min(self._max_bytes, self._left)):
                return None
            self._left -= wide * high
            return not unpacks(found)
        if filters == ["FlateDecode"]:
            data = stored(found, min(MOST_DATA, self._copy_bytes, self._left), raw=True)
            if data is None:
                return None
            most = min(self._left, (wide * _MOST_BYTES + 1) * high)
            count, ended = unpacked(data, most)
            self._left -= max(size, count)
            if count >= most:
                return False if self._left > 0 else None
        elif wide * high * 4 <= min(self._max_bytes, self._left):
            count, ended = unpacked_bytes(found), True
            self._left -= max(size, count)
        else:
            return None
        return not ended or not is_of_rows(count, wide, high, _BITS)


def has_end(data: memoryview) -> bool:
    """Whether the data of a JPEG, or of JPEG 2000, have their end mark, perhaps with padding behind it."""
    return _END in bytes(data[-_END_WITHIN:])


def is_of_rows(count: int, wide: int, high: int, bits: tuple[int, ...]) -> bool:
    """Whether so many bytes are all rows of a picture of some of these bits a pixel.

    A filter before the packing adds a byte a row; some writers do not begin each row with a byte of its own.
    """
    sizes = [-(-wide * some // 8) * high for some in bits]
    return count in sizes or count - high in sizes or count in [-(-wide * some * high // 8) for some in bits]


def rows_share(page: Any, found: Any, max_bytes: int) -> float:
    """Of the bytes that a picture of this size has, those that are there; 1 where that is not known.

    Args:
        page: pdfium's.
        found: a picture on it whose filters are `ROWS`.
        max_bytes: memory that it may take, bytes.
    """
    wide, high = size_of(found)
    filters = filters_of(found)
    if filters == ["FlateDecode"]:
        data = stored(found, MOST_DATA, raw=True)
        if data is None:
            return 1.0
        count, ended = unpacked(data)
    elif wide * high * 4 <= max_bytes:
        data, count, ended = None, unpacked_bytes(found), False
    else:
        return 1.0
    bits, colours = bits_of(page, found)
    if not bits and is_affordable(found, max_bytes) and not unpacks(found):
        return 0.0
    # pdfium does not say how deep a channel is, and of a pixel's bits only whether they are one, up to eight or more.
    channels = _CHANNELS.get(colours, _ANY_CHANNELS)
    depths = sorted({some * deep for some in channels for deep in _DEPTHS if _as_said(some * deep) == min(bits, 24)})
    if not depths:
        depths = [1, 2, 4, bits or 8]
    if is_of_rows(count, wide, high, tuple(depths)):
        return 1.0
    if data is not None and ended and not unpacked(data, summed=True)[1]:
        return 0.0  # garbled from somewhere on: too few or too many bytes, and the check sum is wrong
    usual = 8 * channels[0] if len(channels) == 1 else bits
    ended = ended or filters != ["FlateDecode"]  # or that is not known
    if ended:
        sizes = [-(-wide * some // 8) * high for some in depths]
        many = max(high, *(size // max(1, high) for size in sizes)) + _PADDING
        if any(size <= count <= size + many for size in sizes):
            return 1.0
        if len(channels) > 1:
            usual = depths[0]
    full = usual if usual in depths else depths[-1]
    return min(1.0, count / max(1, -(-wide * full // 8) * high))


def _as_said(bits: int) -> int:
    """The bits a pixel that pdfium says of a picture with so many."""
    return 1 if bits == 1 else 8 if bits <= 8 else 24


def unpacked(data: memoryview, most: int = MOST_UNPACKED, *, summed: bool = False) -> tuple[int, bool]:
    """Bytes that come out, up to a fault, and whether that is all of them, or more than so many.

    With `summed`: whether there is no fault.

    Args:
        data: zlib's.
        most: bytes.
        summed: whether a wrong check sum at its end is a fault. To pdfium it is none, and some writers get it wrong.
    """
    if len(data) < 2 or data[0] & 15 != zlib.DEFLATED or (data[0] << 8 | data[1]) % 31:
        return 0, False
    unpacker, count = zlib.decompressobj(zlib.MAX_WBITS if summed else -zlib.MAX_WBITS), 0
    try:
        for begin in range(0 if summed else 2, len(data), _PIECE):
            rest: bytes | memoryview = data[begin : begin + _PIECE]
            while rest and not unpacker.eof and count < most:
                count += len(unpacker.decompress(rest, _PIECE))
                rest = unpacker.unconsumed_tail
    except zlib.error:
        return count, False
    return count, unpacker.eof or count >= most or summed
