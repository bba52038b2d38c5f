"""A TIFF's directories, read by hand: how many pages, where they lie, what they are. Standard library only.

Pillow refuses to tell the size of pages that libvips reads, and counts thumbnails as pages; the producer must count
without a decoder. TIFF 6.0, sections 2 and 8, and BigTIFF.
"""

from __future__ import annotations

import os
import struct
from array import array
from dataclasses import dataclass, replace
from typing import BinaryIO

MOST_DIRECTORIES = 100_000
"""Of a file: more pages are taken of none (producer/bounds.py)."""

MOST_ENTRIES = 64 * MOST_DIRECTORIES
"""Of all its directories: half a second. A page has 15. No more than lie in the file, each once, are read of any."""

MOST_VALUES = 1_000_000
"""Of one tag, such as strip offsets: a page of a million strips is damage."""

_KEPT_VALUES = 8
"""Of tags that say what a page is: the first is asked for, and of extra samples any. Before, directories of 174 bytes
could each name the same million values 14 times: 110 MB a directory."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}

_NEW_SUBFILE, _SUBFILE, _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES, _ROWS, _PLANAR, _COLOUR_MAP = 274, 277, 278, 284, 320
_TILE_WIDTH, _TILE_LENGTH, _SUB_DIRECTORIES, _EXTRA = 322, 323, 330, 338
_WANTED = frozenset(
    {
        *(_NEW_SUBFILE, _SUBFILE, _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _ROWS),
        *(_PLANAR, _COLOUR_MAP, _TILE_WIDTH, _TILE_LENGTH, _SUB_DIRECTORIES, _EXTRA),
    }
)
COUNTED = frozenset((_NEW_SUBFILE, _SUBFILE, _WIDTH, _LENGTH))
"""What tells pages from thumbnails: half a KB a directory is held."""

_READABLE = frozenset((0, 1, 2, 3, 5, 6, 8))
"""Meanings of samples that make a picture; not so a camera's raw samples (32803)."""


class BrokenTiffError(ValueError):
    """The directory cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Directory:
    """One picture of the file.

    Attributes:
        number: which one it is in the file, from 0, as libtiff and Pillow count.
        place: where its directory begins, bytes.
        tags: the values of those tags that matter here.
        sub: which of the sub-directories of directory `number` it is, from 0; -1: it is that directory itself.
    """

    number: int
    place: int
    tags: dict[int, tuple[int, ...]]
    sub: int = -1

    def first(self, tag: int, default: int) -> int:
        """The tag's first value."""
        values = self.tags.get(tag)
        return values[0] if values else default

    @property
    def width(self) -> int:
        """Pixels."""
        return self.first(_WIDTH, 0)

    @property
    def height(self) -> int:
        """Pixels."""
        return self.first(_LENGTH, 0)

    @property
    def compression(self) -> int:
        """How its data are packed; 1 is not at all."""
        return self.first(_COMPRESSION, 1)

    @property
    def samples(self) -> int:
        """Samples a pixel."""
        return self.first(_SAMPLES, 1)

    @property
    def bits(self) -> int:
        """Bits a sample."""
        return self.first(_BITS, 1)

    @property
    def photometric(self) -> int:
        """What the samples mean. Where the file does not say it, it is guessed as libtiff's own viewer does."""
        return self.first(_PHOTOMETRIC, self._guessed_photometric)

    @property
    def is_guessed(self) -> bool:
        """Whether the file lacks tag 262, which the specification requires and libvips insists on."""
        return _PHOTOMETRIC not in self.tags

    @property
    def _guessed_photometric(self) -> int:
        if self.compression in (2, 3, 4):
            return 0  # fax: white is 0
        if self.samples >= 3:
            return 5 if self.samples == 4 and _EXTRA not in self.tags else 6 if self.compression == 7 else 2
        return 3 if _COLOUR_MAP in self.tags else 1

    @property
    def orientation(self) -> int:
        """As EXIF has it, 1 to 8."""
        value = self.first(_ORIENTATION, 1)
        return value if 1 <= value <= 8 else 1

    @property
    def tiled(self) -> bool:
        """Whether its data are tiles, not strips."""
        return _TILE_WIDTH in self.tags

    @property
    def planar(self) -> bool:
        """Whether each sample has a plane of its own."""
        return self.first(_PLANAR, 1) == 2 and self.samples > 1

    @property
    def alpha(self) -> bool:
        """Whether an extra sample is transparency. 0 is "unspecified": a spot colour, a mask, but not alpha."""
        return any(value in (1, 2) for value in self.tags.get(_EXTRA, ()))

    @property
    def rows_at_once(self) -> int:
        """Rows that a decoder must unpack at once: those of a tile or strip."""
        rows = self.first(_TILE_LENGTH, 0) or self.first(_ROWS, 0) or self.height
        return min(rows, self.height)

    @property
    def pieces(self) -> int:
        """Strips or tiles that it is made of, TIFF 6.0, pages 39 and 67; 1 at least."""
        if self.tiled and (tile := self.first(_TILE_WIDTH, 0)):
            across, down = -(-self.width // tile), -(-self.height // (self.first(_TILE_LENGTH, 0) or self.height or 1))
        else:
            across, down = 1, -(-self.height // (self.first(_ROWS, 0) or self.height or 1))
        return max(1, across * down * (self.samples if self.planar else 1))

    @property
    def has_more(self) -> bool:
        """Whether it has sub-directories: other sizes of it, or what it was made of."""
        return _SUB_DIRECTORIES in self.tags

    @property
    def reduced(self) -> bool:
        """Whether the file says that this is another picture made smaller."""
        return bool(self.first(_NEW_SUBFILE, 0) & 1) or self.first(_SUBFILE, 1) == 2


@dataclass(frozen=True, slots=True)
class Chain:
    """Where the pages of a file are: 12 bytes a page.

    Attributes:
        places: where each page's directory begins, bytes.
        numbers: which directories of the file these are, from 0, as libtiff and Pillow count.
        broken: why the chain of directories ends too early; empty if it does not.
        is_reduced: whether each of them calls itself another picture made smaller.
    """

    places: array[int]
    numbers: array[int]
    broken: str = ""
    is_reduced: bool = False


class Reader:
    """A TIFF's structure: its byte order, whether it is a BigTIFF, and what lies at a place.

    Raises:
        BrokenTiffError: what is asked for lies behind the end.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Reads the header."""
        self._file = file
        self.end = file.seek(0, os.SEEK_END)
        start = self.at(0, 8)
        self.order = "<" if start[:2] == b"II" else ">"
        self.big = start[2:4] in (b"+\0", b"\0+")
        if self.big:
            self.first = struct.unpack(self.order + "Q", self.at(8, 8))[0]
        else:
            self.first = struct.unpack(self.order + "I", start[4:])[0]
        self.entries_read = 0

    def at(self, place: int, count: int) -> bytes:
        """So many bytes at a place."""
        if place < 0 or place + count > self.end:
            raise BrokenTiffError(f"a directory would lie at byte {place}, behind the end at {self.end}")
        self._file.seek(place)
        data = self._file.read(count)
        if len(data) < count:
            raise BrokenTiffError("the file ends inside a directory")
        return data

    def directory(self, number: int, place: int, wanted: frozenset[int], most: int) -> tuple[Directory, int]:
        """The directory there, with so many values of each tag at most, and the place of the next."""
        entries, following = self._entries(place)
        tags: dict[int, tuple[int, ...]] = {}
        for tag, kind, values, inline in struct.iter_unpack(self.order + self.layout[1], entries):
            # Of a tag that is there twice libtiff takes the first.
            if tag in wanted and tag not in tags and kind in _CODES and 0 < values <= MOST_VALUES:
                tags[tag] = self._values(kind, values, inline, most)
        return Directory(number, place, {tag: values for tag, values in tags.items() if values}), following

    def raw_tags(self, place: int, wanted: frozenset[int], most: int) -> dict[int, tuple[int, int, bytes]]:
        """The kind, the number and the bytes of the values of each of these tags that has no more bytes than `most`."""
        found: dict[int, tuple[int, int, bytes]] = {}
        for tag, kind, count, inline in struct.iter_unpack(self.order + self.layout[1], self._entries(place)[0]):
            size = _SIZES.get(kind, 0) * count
            if tag not in wanted or tag in found or not 0 < size <= most:
                continue
            if size > len(inline):
                try:
                    inline = self.at(struct.unpack(self.order + self.layout[2], inline)[0], size)
                except BrokenTiffError:
                    continue
            found[tag] = kind, count, inline[:size]
        return found

    @property
    def layout(self) -> tuple[str, str, str]:
        """Struct codes of a directory's counter, of its entries, and of a place in the file."""
        return ("Q", "HHQ8s", "Q") if self.big else ("H", "HHI4s", "I")

    def _entries(self, place: int) -> tuple[bytes, int]:
        counter, entry, pointer = self.layout
        wide = struct.calcsize("=" + counter)
        count = struct.unpack(self.order + counter, self.at(place, wide))[0]
        if not 0 < count <= 4096:
            raise BrokenTiffError(f"a directory with {count} entries")
        self.entries_read += count
        size = count * struct.calcsize("=" + entry)
        following = self.at(place + wide + size, struct.calcsize("=" + pointer))
        return self.at(place + wide, size), struct.unpack(self.order + pointer, following)[0]

    def _values(self, kind: int, count: int, inline: bytes, most: int) -> tuple[int, ...]:
        elsewhere = _SIZES[kind] * count > len(inline)
        count = min(count, most)
        size = _SIZES[kind] * count
        if elsewhere:
            place = struct.unpack(self.order + ("Q" if self.big else "I"), inline)[0]
            try:
                inline = self.at(place, size)
            except BrokenTiffError:
                return ()  # a tag whose values are lost; what needs it fails there
        return struct.unpack(f"{self.order}{count}{_CODES[kind]}", inline[:size])


def read_chain(file: BinaryIO) -> Chain:
    """Walks the chain of directories; no pixel is read.

    A directory that calls itself reduced and is smaller than another one is a thumbnail or a pyramid level, no page.

    Raises:
        BrokenTiffError: not even the first directory can be read.
    """
    reader = Reader(file)
    places, small, sizes = array("Q"), array("I"), []  # of reduced ones their numbers and sizes
    width = height = 0  # of others the largest
    seen: set[int] = set()
    most = min(MOST_ENTRIES, reader.end // (20 if reader.big else 12))
    place, broken = reader.first, ""
    while place:
        try:
            if place in seen:
                raise BrokenTiffError("its directories go in a circle")
            if len(places) >= MOST_DIRECTORIES:
                raise BrokenTiffError(f"more than {MOST_DIRECTORIES} directories")
            if reader.entries_read > most:
                raise BrokenTiffError("its directories lie over each other, or have too many entries")
            seen.add(place)
            found, following = reader.directory(len(places), place, COUNTED, _KEPT_VALUES)
        except BrokenTiffError as error:
            if not places:
                raise
            broken = str(error)
            break
        if found.reduced:
            small.append(len(places))
            sizes.append((found.width, found.height))
        else:
            width, height = max(width, found.width), max(height, found.height)
        places.append(place)
        place = following
    if not places:
        raise BrokenTiffError("it has no directory")
    if len(small) == len(places):
        return Chain(places, small, broken, is_reduced=True)
    no_pages = {number for number, size in zip(small, sizes, strict=True) if size[0] < width and size[1] < height}
    numbers = array("I", (number for number in range(len(places)) if number not in no_pages))
    return Chain(array("Q", (places[number] for number in numbers)), numbers, broken)


def read_page(file: BinaryIO, chain: Chain, page: int) -> Directory:
    """The directory of a page, from 0; where all pages are thumbnails, of what it was made of, if that can be read.

    Raises:
        BrokenTiffError: the file is no longer what it was.
    """
    reader = Reader(file)
    found, _ = reader.directory(chain.numbers[page], chain.places[page], _WANTED, _KEPT_VALUES)
    return _large(reader, found) if chain.is_reduced else found


def _large(reader: Reader, page: Directory) -> Directory:
    """What a thumbnail was made of, if that lies in one of its sub-directories (TIFF/EP, DNG) and can be read."""
    best = page
    for number, place in enumerate(page.tags.get(_SUB_DIRECTORIES, ())):
        try:
            sub, _ = reader.directory(page.number, place, _WANTED, _KEPT_VALUES)
        except BrokenTiffError:
            continue
        larger = sub.width > best.width and sub.height > best.height
        if larger and not sub.reduced and sub.photometric in _READABLE:
            best = replace(sub, sub=number)
    return best
