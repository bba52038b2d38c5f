"""A TIFF's directories, read by hand: how many pages, where they lie, what they are. Standard library only.

Pillow refuses to tell the size of pages that libvips reads, and counts thumbnails as pages; the producer must count
without a decoder. TIFF 6.0, sections 2 and 8, and BigTIFF.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from itertools import zip_longest
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
_STRIPS, _ORIENTATION, _SAMPLES, _ROWS, _COUNTS, _PLANAR = 273, 274, 277, 278, 279, 284
_TILE_WIDTH, _TILE_LENGTH, _TILES, _TILE_COUNTS, _EXTRA = 322, 323, 324, 325, 338
_WANTED = frozenset(
    {
        *(_NEW_SUBFILE, _SUBFILE, _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _ROWS),
        *(_PLANAR, _TILE_WIDTH, _TILE_LENGTH, _EXTRA),
    }
)
COUNTED = frozenset((_NEW_SUBFILE, _SUBFILE, _WIDTH, _LENGTH))
"""What tells pages from thumbnails: half a KB a directory is held."""

_PLACES = frozenset((_STRIPS, _COUNTS, _TILES, _TILE_COUNTS))


class BrokenTiffError(ValueError):
    """The directory cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Directory:
    """One picture of the file.

    Attributes:
        number: which one it is in the file, from 0, as libtiff and Pillow count.
        place: where its directory begins, bytes.
        tags: the values of those tags that matter here.
    """

    number: int
    place: int
    tags: dict[int, tuple[int, ...]]

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
        """What the samples mean."""
        return self.first(_PHOTOMETRIC, 1)

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
    def reduced(self) -> bool:
        """Whether the file says that this is another picture made smaller."""
        return bool(self.first(_NEW_SUBFILE, 0) & 1) or self.first(_SUBFILE, 1) == 2


@dataclass(frozen=True, slots=True)
class Directories:
    """All pictures of a file.

    Attributes:
        pages: those that are pages.
        broken: why the chain of directories ends too early; empty if it does not.
    """

    pages: list[Directory]
    broken: str = ""


class _Reader:
    def __init__(self, file: BinaryIO) -> None:
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
        if place < 0 or place + count > self.end:
            raise BrokenTiffError(f"a directory would lie at byte {place}, behind the end at {self.end}")
        self._file.seek(place)
        data = self._file.read(count)
        if len(data) < count:
            raise BrokenTiffError("the file ends inside a directory")
        return data

    def directory(self, number: int, place: int, wanted: frozenset[int], most: int) -> tuple[Directory, int]:
        """The directory there, with so many values of each tag at most, and the place of the next."""
        counter, entry, pointer = ("Q", "HHQ8s", "Q") if self.big else ("H", "HHI4s", "I")
        wide = struct.calcsize("=" + counter)
        count = struct.unpack(self.order + counter, self.at(place, wide))[0]
        if not 0 < count <= 4096:
            raise BrokenTiffError(f"a directory with {count} entries")
        size = struct.calcsize("=" + entry)
        data = self.at(place + wide, count * size)
        self.entries_read += count
        following = self.at(place + wide + count * size, struct.calcsize("=" + pointer))
        tags: dict[int, tuple[int, ...]] = {}
        for tag, kind, values, inline in struct.iter_unpack(self.order + entry, data):
            # Of a tag that is there twice libtiff takes the first.
            if tag in wanted and tag not in tags and kind in _CODES and 0 < values <= MOST_VALUES:
                tags[tag] = self._values(kind, values, inline, most)
        tags = {tag: values for tag, values in tags.items() if values}
        return Directory(number, place, tags), struct.unpack(self.order + pointer, following)[0]

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


def read_directories(file: BinaryIO, wanted: frozenset[int] = _WANTED) -> Directories:
    """Walks the chain of directories; no pixel is read.

    A directory that calls itself reduced and is smaller than another one is a thumbnail or a pyramid level, no page.

    Args:
        file: the open TIFF.
        wanted: tags to keep; `COUNTED` where pages are only counted.

    Raises:
        BrokenTiffError: not even the first directory can be read.
    """
    reader = _Reader(file)
    found: list[Directory] = []
    seen: set[int] = set()
    most = min(MOST_ENTRIES, reader.end // (20 if reader.big else 12))
    place, broken = reader.first, ""
    while place:
        try:
            if place in seen:
                raise BrokenTiffError("its directories go in a circle")
            if len(found) >= MOST_DIRECTORIES:
                raise BrokenTiffError(f"more than {MOST_DIRECTORIES} directories")
            if reader.entries_read > most:
                raise BrokenTiffError("its directories lie over each other, or have too many entries")
            seen.add(place)
            directory, place = reader.directory(len(found), place, wanted, _KEPT_VALUES)
        except BrokenTiffError as error:
            if not found:
                raise
            broken = str(error)
            break
        found.append(directory)
    if not found:
        raise BrokenTiffError("it has no directory")
    return Directories(_pages(found), broken)


def _pages(found: list[Directory]) -> list[Directory]:
    whole = [directory for directory in found if not directory.reduced]
    if not whole or len(whole) == len(found):
        return found
    width, height = max(page.width for page in whole), max(page.height for page in whole)
    return [one for one in found if not one.reduced or one.width >= width or one.height >= height]


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


def missing_data(file: BinaryIO, directory: Directory) -> Missing:
    """What is missing of a page; nothing of a whole file."""
    reader = _Reader(file)
    full, _ = reader.directory(directory.number, directory.place, _PLACES | _WANTED, MOST_VALUES)
    places, sizes = (_TILES, _TILE_COUNTS) if full.tiled and _TILES in full.tags else (_STRIPS, _COUNTS)
    begins, counts = full.tags.get(places, ()), full.tags.get(sizes, ())
    if not begins or not counts:
        return Missing()
    pairs = list(zip_longest(begins, counts[: len(begins)], fillvalue=0))
    # Where it is known without, or libtiff works it out, some writers left the number of bytes at 0.
    known = full.compression == 1 or full.pieces == 1
    there = sum(0 < begin < reader.end and (count > 0 or known) for begin, count in pairs)
    total = sum(count for _, count in pairs) or 1
    lost = sum(max(0, min(count, begin + count - reader.end)) for begin, count in pairs if begin)
    return Missing(max(0.0, 1.0 - there / full.pieces), lost / total)
