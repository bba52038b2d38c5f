"""Members of zips by their names, in 16 bytes of memory a member: zipfile keeps 500, and a stranger's has a million.

Only where each entry stands in the table of contents is kept, by a hash of its name. The entry itself is read again
when it is asked for, and given to zipfile as the only one of a zip that has the same bytes before it.
"""

from __future__ import annotations

import io
import struct
import zipfile
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

from detector.errors import NotFound, TooLarge
from detector.images.regular_file import facts_of, open_regular
from worker.storage.archive_errors import name_of
from worker.storage.bound import Bound

MOST_MEMBERS = 1_000_000
"""16 MB here. Listing a zip ends at about 500,000 (producer.archive_process.program)."""

_ENTRY = struct.Struct("<4s4xH18x3H12x")  # mark, flags, lengths of name, extra fields, comment
_END, _END64, _LOCATOR64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_MOST_COMMENT = (1 << 16) - 1
_UTF8 = 0x800
_UNICODE_PATH = b"up"  # the tag 0x7075 of an extra field: another name, which some versions of zipfile take


class _Directory(NamedTuple):
    """A table of contents: where it begins and ends in the file, and where it says that it begins."""

    start: int
    end: int
    says: int
    members: int


class ZipCursor:
    """Keeps the last zip open: its table of contents is read once and not again for each page."""

    def __init__(self, open_file: Callable[[Path], BinaryIO] = open_regular) -> None:
        """Open nothing yet; ``open_file`` will."""
        self._open = open_file
        self._identity: object = None
        self._file: BinaryIO | None = None
        self._index: _Index | None = None

    def open_member(
        self, archive: Path, member: str, bound: Bound | None = None, number: int | None = None
    ) -> IO[bytes]:
        """The bytes of a member; of several of one name the last: a zip's addresses have no number.

        Raises:
            NotFound: no such member.
            TooLarge: the zip has more members than are looked through, or says that this one is above the bound.
            zipfile.BadZipFile: it is damaged.
        """
        identity = (archive, facts_of(archive.stat()))
        if self._file is None or self._index is None or self._identity != identity:
            self.close()  # before the next
            self._file = self._open(archive)
            self._index, self._identity = _Index(self._file, archive), identity
        bundle = self._index.zip_of(member)
        if bundle is None:
            raise NotFound(f"no member {member!r} in {archive}")
        entry = bundle.infolist()[0]
        if bound is not None:
            bound.check(name_of(member), entry.file_size)
        return bundle.open(entry)

    def close(self) -> None:
        """Let go of the zip. Safe to call twice."""
        if self._file is not None:
            self._file.close()
        self._file = self._index = None


class _Index:
    """Where the entries stand: a hash table of numbers, with another of the hashes' other halves."""

    def __init__(self, file: BinaryIO, archive: Path) -> None:
        self._file = file
        self._directory = _directory(file)
        # What a zip says of the number of its members is 16 bits where it is old.
        room = min(self._directory.members, (self._directory.end - self._directory.start) // _ENTRY.size)
        while not self._fill(room):
            if room > MOST_MEMBERS:
                raise TooLarge(f"{archive} has more than {MOST_MEMBERS:,} members; split it, or unpack it first")
            room = min(2 * room + 1000, MOST_MEMBERS + 1)

    def _fill(self, room: int) -> bool:
        """Index so many entries; False: there are more."""
        if room > MOST_MEMBERS:
            return False
        size = 1 << max(4, (3 * room // 2).bit_length())
        self._mask = size - 1
        self._places, self._marks = array("I", bytes(4 * size)), array("I", bytes(4 * size))
        for count, (place, name) in enumerate(_entries(self._file, self._directory)):
            if count == room:
                return False
            slot, mark = self._slot_of(name)
            self._places[slot], self._marks[slot] = place + 1, mark
        return True

    def _slot_of(self, name: bytes) -> tuple[int, int]:
        """The slot where a name is, or would be."""
        number = hash(name)
        slot, mark = number & self._mask, number >> 32 & 0xFFFFFFFF
        while place := self._places[slot]:
            if self._marks[slot] == mark and self._name_at(place - 1) == name:
                break
            slot = slot + 1 & self._mask
        return slot, mark

    def _name_at(self, place: int) -> bytes:
        position = self._file.tell()
        _, name = next(_entries(self._file, self._directory, place))
        self._file.seek(position)
        return name

    def zip_of(self, member: str) -> zipfile.ZipFile | None:
        """A zip with this member alone; None: there is none of that name."""
        place = self._places[self._slot_of(member.encode("utf-8", "surrogateescape"))[0]]
        if not place:
            return None
        self._file.seek(self._directory.start + place - 1)
        entry = self._file.read(_ENTRY.size)
        _, _, name, extra, comment = _ENTRY.unpack(entry)
        entry += self._file.read(name + extra + comment)
        return zipfile.ZipFile(_OneMember(self._file, self._directory, entry))


def _entries(file: BinaryIO, directory: _Directory, first: int = 0) -> Iterator[tuple[int, bytes]]:
    """Where each entry begins, from the table's beginning, and its name as zipfile gives it, in UTF-8."""
    place = first
    file.seek(directory.start + first)
    while directory.start + place < directory.end:
        head = file.read(_ENTRY.size)
        if len(head) < _ENTRY.size or head[:4] != b"PK\x01\x02":
            raise zipfile.BadZipFile("its table of contents is damaged")
        _, flags, name_bytes, extra_bytes, comment_bytes = _ENTRY.unpack(head)
        length = name_bytes + extra_bytes + comment_bytes
        rest = file.read(length)
        if len(rest) < length:
            raise zipfile.BadZipFile("its table of contents is cut off")
        name = rest[:name_bytes]
        if _UNICODE_PATH in rest[name_bytes : name_bytes + extra_bytes]:
            name = _as_zipfile_says(head + rest)
        elif not name.isascii() and not flags & _UTF8:
            name = name.decode("cp437").encode()
        yield place, name.partition(b"\0")[0]
        place += _ENTRY.size + length


def _as_zipfile_says(entry: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(entry + _END.pack(b"PK\5\6", 0, 0, 1, 1, len(entry), 0, 0))) as alone:
        return alone.infolist()[0].filename.encode("utf-8", "surrogateescape")


def _directory(file: BinaryIO) -> _Directory:
    """Finds the table of contents.

    Raises:
        zipfile.BadZipFile: there is none.
    """
    size = file.seek(0, io.SEEK_END)
    start = file.seek(max(0, size - _END.size - _MOST_COMMENT))
    tail = file.read()
    at = len(tail) - _END.size
    if tail[at : at + 4] != b"PK\5\6" or tail[-2:] != b"\0\0":
        at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise zipfile.BadZipFile("File is not a zip file")
    *_, count, length, says, _ = _END.unpack_from(tail, at)
    end = start + at
    file.seek(max(0, end - _LOCATOR64.size - _END64.size))
    before = file.read(_END64.size + _LOCATOR64.size)
    if before[-_LOCATOR64.size :][:4] == b"PK\6\7" and before[:4] == b"PK\6\6":
        end -= len(before)
        *_, count, length, says = _END64.unpack_from(before)
    if not 0 <= length <= end or says > end - length:
        raise zipfile.BadZipFile("Bad offset for central directory")
    if length >= 1 << 32:
        raise TooLarge("its table of contents is larger than 4 GiB; unpack it first")
    return _Directory(end - length, end, says, count)


class _OneMember(io.RawIOBase):
    """A zip's bytes up to its table of contents, and behind them a table of one entry."""

    def __init__(self, file: BinaryIO, directory: _Directory, entry: bytes) -> None:
        self._file, self._start = file, directory.start
        ends = _END64.pack(b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(entry), directory.says)
        ends += _LOCATOR64.pack(b"PK\6\7", 0, directory.start + len(entry), 1)
        self._tail = entry + ends + _END.pack(b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self._at, self._start + len(self._tail))[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._start + len(self._tail)
        stop = end if size < 0 else min(end, self._at + size)
        data = b""
        if self._at < min(stop, self._start):
            self._file.seek(self._at)
            data = self._file.read(min(stop, self._start) - self._at)
        if stop > self._start:
            data += self._tail[max(0, self._at - self._start) : stop - self._start]
        self._at += len(data)
        return data
