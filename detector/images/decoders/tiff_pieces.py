"""The strips or tiles of a TIFF's page: what of them is missing, and a copy of the page that libtiff has no remark on.

libtiff warns of a directory's oddities (tags that are not sorted, a count of 0, unknown tags) as it does of data that
are spoilt, and libvips tells the two apart no more. Of a copy with a clean directory every remark is one on the data.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from io import BytesIO
from typing import BinaryIO, NamedTuple

from detector.images.header import Header
from detector.images.tiff import MOST_VALUES, BrokenTiffError, Directory, Reader

MOST_COPIED = 32 << 20
"""Bytes of a page's data that are copied: such a page is fax, JPEG, PackBits, or lacks a tag, and is small."""

_BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _ORIENTATION = 258, 259, 262, 266, 274
_STRIPS, _COUNTS, _TILE_WIDTH, _TILE_LENGTH, _TILES, _TILE_COUNTS = 273, 279, 322, 323, 324, 325
_KEPT = frozenset(
    {
        *(256, 257, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _ORIENTATION, 277, 278, 284, 292, 293, 317, 320),
        *(_TILE_WIDTH, _TILE_LENGTH, 332, 338, 339, 347, 529, 530, 531, 532),
    }
)
"""What says how the data are read: sizes, samples, predictor, palette, tables of JPEG, YCbCr. No metadata."""

_FAX_2D, _END_OF_FAX = 4, b"\x00\x10\x01"
_JPEG, _END_OF_JPEG = 7, b"\xff\xd9"
_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # where the lowest bit is the first
_DEFLATE = (8, 32946)
_YCBCR = 6
_MANY = 100  # strips or tiles: one that is garbled is no loss, and to inflate all takes twice as long as to decode
_UNPACKED_AT_ONCE = 1 << 20
_MOST_INFLATED = 1 << 30  # bytes of a page


def read_page(file: BinaryIO, header: Header) -> tuple[Reader, Directory]:
    """The page's directory with where each of its strips or tiles lies."""
    reader = Reader(file)
    wanted = _KEPT | {_STRIPS, _COUNTS, _TILES, _TILE_COUNTS}
    return reader, reader.directory(header.directory, header.place, wanted, MOST_VALUES)[0]


def pieces_of(full: Directory) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where a picture's strips or tiles begin, and how many bytes each of them has; 0: the file does not say it.

    Some writers give more bytes than there are. Of what is not packed one knows how many it takes.
    """
    places, sizes = (_TILES, _TILE_COUNTS) if full.tiled and _TILES in full.tags else (_STRIPS, _COUNTS)
    begins, given = full.tags.get(places, ()), full.tags.get(sizes, ())
    counts = [*given[: len(begins)], *[0] * (len(begins) - len(given))]
    if full.compression == 1 and full.photometric != 6 and counts:
        most = unpacked_bytes(full, 0)
        counts = [min(count, most) for count in counts]
        counts[-1] = min(counts[-1], unpacked_bytes(full, len(counts) - 1))  # the last strip has fewer rows
    return begins, tuple(counts)


def unpacked_bytes(full: Directory, piece: int) -> int:
    """What a strip or tile of a picture that is not packed takes; colours are not subsampled."""
    bits = full.tags.get(_BITS, (1,))
    pixel = bits[0] if full.planar else sum(bits) if len(bits) == full.samples else bits[0] * full.samples
    width, rows = full.width, full.rows_at_once
    if full.tiled:
        width, rows = full.first(_TILE_WIDTH, 0), full.first(_TILE_LENGTH, 0)
    elif rows:
        rows = min(rows, full.height - piece % -(-full.height // rows) * rows)
    return -(-width * pixel // 8) * rows


@dataclass(frozen=True, slots=True)
class Missing:
    """What of a page's strips or tiles is not there, as far as its directory tells; shares, 0 to 1.

    Attributes:
        absent: of its strips or tiles, those that the directory does not list, or lists without any data.
        behind: of the data of the others, what would lie behind the end of the file.
    """

    absent: float = 0.0
    behind: float = 0.0

    @property
    def share(self) -> float:
        """Of the picture."""
        return self.absent + (1.0 - self.absent) * self.behind


def missing_data(file: BinaryIO, header: Header) -> Missing:
    """What is missing of a page; nothing of a whole file."""
    reader, full = read_page(file, header)
    begins, counts = pieces_of(full)
    if not begins or not any(tag in full.tags for tag in (_COUNTS, _TILE_COUNTS)):
        return Missing()
    # Where it is known without, or libtiff works it out, some writers left the number of bytes at 0.
    known = full.compression == 1 or full.pieces == 1
    pairs = list(zip(begins, counts, strict=True))
    there = sum(0 < begin < reader.end and (count > 0 or known) for begin, count in pairs)
    total = sum(count for _, count in pairs) or 1
    lost = sum(max(0, min(count, begin + count - reader.end)) for begin, count in pairs if begin)
    return Missing(max(0.0, 1.0 - there / full.pieces), lost / total)


def tile_size(file: BinaryIO, header: Header) -> tuple[int, int] | None:
    """(width, height) of the page's tiles, pixels; None of strips."""
    full = read_page(file, header)[1]
    wide, high = full.first(_TILE_WIDTH, 0), full.first(_TILE_LENGTH, 0)
    return (wide, high) if wide and high else None


def share_not_garbled(file: BinaryIO, header: Header) -> float:
    """Of a page's few strips or tiles in Deflate those that end as they should; 1 of many, and of other compressions.

    Decoders stop once they have all rows, and do not ask for the check sum: what comes behind a fault is garbled.
    """
    if header.compression not in _DEFLATE:
        return 1.0
    reader, full = read_page(file, header)
    if full.photometric == _YCBCR or full.pieces > _MANY:
        return 1.0  # subsampled: how many bytes that takes is not known here
    pieces = list(zip(*pieces_of(full), strict=True))[: full.pieces]  # a directory may name more
    expected = [unpacked_bytes(full, piece) for piece in range(len(pieces))]
    if sum(expected) > _MOST_INFLATED:
        return 1.0
    turned = _TURNED if full.first(_FILL_ORDER, 1) == 2 else None
    garbled, unread = 0, reader.end
    for piece, (begin, count) in enumerate(pieces):
        count = _there(reader, full, piece, begin, count)
        if (unread := unread - count) < 0:
            break  # they lie over each other: a hundred of 30 MB in one place took 6 s
        garbled += count > 0 and _is_garbled(reader, begin, count, expected[piece], 2 * max(expected), turned)
    return 1.0 - garbled / max(1, len(pieces))


def _is_garbled(reader: Reader, begin: int, left: int, expected: int, most: int, turned: bytes | None) -> bool:
    """Whether a piece's check sum is wrong, or where it has none (some writers leave the end out) its size."""
    unpacker, count, data = zlib.decompressobj(), 0, b""
    try:
        while not unpacker.eof and count <= most:
            if not data and left:
                data = reader.at(begin, min(left, _UNPACKED_AT_ONCE)).translate(turned)
                begin, left = begin + len(data), left - len(data)
            out = unpacker.decompress(data, _UNPACKED_AT_ONCE)
            data, count = unpacker.unconsumed_tail, count + len(out)
            if not out and not data and not left:
                return count != expected
    except zlib.error:
        return True
    return not unpacker.eof


class Alone(NamedTuple):
    """A page as the only one of a TIFF in memory.

    Attributes:
        file: the TIFF.
        header: of the page in it.
        sure: whether its data are known to be all there where the decoder does not remark on them: their sizes are as
            the directory said, or their end marks are there.
    """

    file: BytesIO
    header: Header
    sure: bool


def page_alone(file: BinaryIO, header: Header, *, turned: bool = False) -> Alone | None:
    """The page as the only one of a TIFF in memory, its directory clean: what is wrong with it then is its data.

    Its tags are sorted, tag 262 is there, and no piece has more bytes than the file.

    Args:
        file: the TIFF.
        header: of the page.
        turned: whether the copy is to have the tag of its orientation, for Pillow, which turns the page by it.

    Returns:
        None if the page has no data, or too much of it.
    """
    copy = BytesIO()
    try:
        reader, full = read_page(file, header)
        begins, said = pieces_of(full)
        counts = tuple(_there(reader, full, *piece) for piece in zip(range(len(begins)), begins, said, strict=True))
        if not 0 < sum(counts) <= MOST_COPIED:
            return None
        tags = reader.raw_tags(header.place, _KEPT if turned else _KEPT - {_ORIENTATION}, MOST_COPIED)
        copy.write(_start(reader, 0))
        places, sure = [], True
        for begin, count, given in zip(begins, counts, said, strict=True):
            places.append(copy.tell())
            piece = reader.at(begin, count)
            copy.write(piece + bytes(count % 2))
            sure = sure and (count == given or _has_end(piece, full.compression, full.first(_FILL_ORDER, 1)))
    except BrokenTiffError:
        return None
    kind = 16 if reader.big else 4
    for tag, values in zip((_TILES, _TILE_COUNTS) if full.tiled else (_STRIPS, _COUNTS), (places, counts), strict=True):
        tags[tag] = kind, len(values), struct.pack(f"{reader.order}{len(values)}{reader.layout[2]}", *values)
    if _PHOTOMETRIC not in tags:  # then it is guessed; what is said may have 64 bits
        tags[_PHOTOMETRIC] = 3, 1, struct.pack(reader.order + "H", full.photometric)
    place = _append(reader, copy, tags)
    copy.seek(0)
    copy.write(_start(reader, place))
    return Alone(copy, replace(header, directory=0, place=place, sub=-1), sure)


def _there(reader: Reader, full: Directory, piece: int, begin: int, count: int) -> int:
    """Bytes of a piece that are there: as many as are said, or can be."""
    if not count and full.compression == 1 and full.photometric != 6:
        count = unpacked_bytes(full, piece)
    left = max(0, reader.end - begin)
    return left if not count and full.pieces == 1 else min(count, left)


def _has_end(piece: bytes, compression: int, fill_order: int) -> bool:
    """Whether the mark at the end of data is there of which libtiff may not say that they are cut off.

    Fax of group 4 has EOFB (T.6, 2.4.1.1), at whatever bit, which no code in its data is like; JPEG has EOI.
    """
    if compression == _JPEG:
        return _END_OF_JPEG in piece
    if compression != _FAX_2D:
        return True
    if fill_order == 2:
        piece = piece.translate(_TURNED)
    bits = int.from_bytes(piece, "big") << 8
    return any(_END_OF_FAX in (bits >> shift).to_bytes(len(piece) + 1, "big") for shift in range(8))


def _start(reader: Reader, place: int) -> bytes:
    mark = b"II" if reader.order == "<" else b"MM"
    if reader.big:
        return mark + struct.pack(reader.order + "HHHQ", 43, 8, 0, place)
    return mark + struct.pack(reader.order + "HI", 42, place)


def _append(reader: Reader, copy: BytesIO, tags: dict[int, tuple[int, int, bytes]]) -> int:
    """Appends a directory, after what does not fit into its entries; where it begins."""
    counter, entry, pointer = (reader.order + code for code in reader.layout)
    inline = struct.calcsize(pointer)
    entries = []
    for tag, (kind, count, values) in sorted(tags.items()):
        field = values.ljust(inline, b"\0")
        if len(values) > inline:
            field = struct.pack(pointer, copy.tell())
            copy.write(values + bytes(len(values) % 2))
        entries.append(struct.pack(entry, tag, kind, count, field))
    place = copy.tell()
    copy.write(struct.pack(counter, len(entries)) + b"".join(entries) + bytes(inline))
    return place
