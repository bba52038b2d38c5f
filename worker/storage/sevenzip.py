"""7z archives read forward, through the optional py7zr (`pip install 'ocrfleet[archives]'`).

What an archive asks for is weighed before anything is unpacked: dictionary, methods, and how much would come out of how
little. Members of a solid block can only be had one after the other, so the archive stays open from page to page.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, cast

from detector.errors import NotFound, UnsupportedFormat, first_line
from detector.images.regular_file import facts_of, open_regular
from worker.storage.archive_errors import MOST_WINDOW_BYTES, name_of
from worker.storage.bound import Bound
from worker.storage.ppmd import PpmdDecompressor

MOST_RATIO = 5000
"""How many times larger than the file what is in it may be, beyond `FREE_BYTES`: white bilevel pages have 1000."""

FREE_BYTES = 1 << 30
_BLOCK = 1 << 20
_COPY, _DELTA, _LZMA2 = b"\0", b"\x03", b"\x21"
_LZMA, _PPMD = b"\x03\x01\x01", b"\x03\x04\x01"
_PLAIN = {_COPY, _DELTA, b"\x04\x01\x08", b"\x04\x01\x09", b"\x04\x02\x02"}  # deflate, deflate64, bzip2
_BRANCHES = {  # x86, PowerPC, Itanium, ARM, ARM Thumb, SPARC: programs have them, archives with programs too
    *(b"\x04", b"\x05", b"\x06", b"\x07", b"\x08", b"\x09"),
    *(b"\x03\x03\x01\x03", b"\x03\x03\x02\x05", b"\x03\x03\x04\x01", b"\x03\x03\x05\x01", b"\x03\x03\x07\x01"),
    b"\x03\x03\x08\x05",
}
_AES = b"\x06\xf1\x07\x01"


def can_open() -> bool:
    """Whether the extra is installed here."""
    return find_spec("py7zr") is not None


class SevenZipMember(NamedTuple):
    """One entry of an archive.

    Attributes:
        name: as stored.
        size: unpacked, bytes, as the archive says.
        is_file: not a folder, link, socket or junction.
        is_link: a link or a junction.
        content: its bytes, to be read before the next member is asked for.
    """

    name: str
    size: int
    is_file: bool
    is_link: bool
    content: IO[bytes]


class SevenZip:
    """A 7z archive that is open for reading forward. Close it; what is in PPMd is unpacked by a process.

    Args:
        file: the open archive; stays open, and is nobody else's meanwhile.

    Raises:
        UnsupportedFormat: the extra is not installed.
        RuntimeError: it is encrypted.
        NotImplementedError: a method that is not read here, or a dictionary that is too large.
        ValueError: damaged, or far larger inside than any pile of pictures.
        MemoryError: there is not enough for its table of contents.
    """

    def __init__(self, file: BinaryIO) -> None:
        try:
            import py7zr
        except ImportError:
            raise UnsupportedFormat("a 7z archive; pip install 'ocrfleet[archives]' here, or unpack it first") from None
        self._file = file
        self._decompressor: Any = None
        methods = py7zr.compressor.algorithm_class_map  # also of what unpacks the table of contents
        methods[py7zr.FILTER_PPMD] = (methods[py7zr.FILTER_PPMD][0], PpmdDecompressor)
        try:
            self._archive: Any = py7zr.SevenZipFile(file)
        except py7zr.exceptions.PasswordRequired as error:
            raise RuntimeError("its table of contents is encrypted") from error
        except Exception as error:
            raise ValueError(_said(error)) from error
        self._weigh(file.seek(0, io.SEEK_END))

    @property
    def _streams(self) -> Any:
        return getattr(self._archive.header, "main_streams", None)

    def _weigh(self, packed: int) -> None:
        if self._streams and not (self._streams.packinfo and self._streams.unpackinfo):
            raise ValueError("its table of contents does not say how its members are packed")
        folders = self._streams.unpackinfo.folders if self._streams else []
        for folder in folders:
            for coder in folder.coders:
                _refuse_coder(coder)
        inside = sum(entry.uncompressed for entry in self._files())
        if inside > FREE_BYTES and inside > MOST_RATIO * packed:
            raise ValueError(
                f"{inside >> 20} MiB would come out of {packed >> 10} KiB; unpack it first if you trust it"
            )

    def _files(self) -> Any:
        return getattr(self._archive, "files", ())

    def members(self) -> Iterator[SevenZipMember]:
        """Every entry, empty ones first. Of a block that is spoilt, reading one raises ValueError; others are sound."""
        for entry in self._files():
            if entry.emptystream:
                yield _member(entry, io.BytesIO())
        if not self._streams:
            return
        info = self._streams.packinfo
        for folder, position in zip(self._streams.unpackinfo.folders, info.packpositions, strict=False):
            if folder.files is None:
                continue
            self._file.seek(self._archive.afterheader + position)
            self.close()
            failed = ""
            for entry in folder.files:
                try:
                    if not failed:
                        self._decompressor = self._decompressor or folder.get_decompressor(entry.compressed, reset=True)
                except Exception as error:
                    failed = _said(error)
                content = _Content(self._file, self._decompressor, entry.uncompressed, entry.crc32, failed)
                yield _member(entry, cast("IO[bytes]", content))
                failed = content.skip()  # what comes after it in its block can only be had through it

    def close(self) -> None:
        """End what unpacks the last block. Safe to call twice."""
        chain = self._decompressor.chain if self._decompressor else ()
        for step in chain:
            if isinstance(step, PpmdDecompressor):
                step.close()
        self._decompressor = None


class _Content(io.RawIOBase):
    """The bytes of one member, unpacked as they are asked for; the check sum is looked at where they end."""

    def __init__(self, file: BinaryIO, decompressor: Any, size: int, crc: int | None, failed: str) -> None:
        self._file, self._decompressor = file, decompressor
        self._left, self._crc = size, crc
        self._sum, self._failed = 0, failed

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(_BLOCK), b""))
        while self._left and size and not self._failed:
            before = self._file.tell()
            try:
                data = bytes(self._decompressor.decompress(self._file, min(size, self._left, _BLOCK)))
            except Exception as error:
                self._failed = _said(error)
                break
            if data:
                return self._counted(data)
            if self._file.tell() == before:
                self._failed = "its data ends early"
        if self._failed:
            raise ValueError(self._failed)
        return b""

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        self._sum = zlib.crc32(data, self._sum)
        if not self._left and self._crc is not None and self._sum != self._crc:
            raise ValueError("its check sum is wrong")
        return data

    def skip(self) -> str:
        """Unpacks the rest for what comes after it; nothing is kept, and a wrong check sum is no matter here.

        Returns: why nothing after it can be unpacked, or nothing.
        """
        self._crc = None
        with suppress(ValueError):
            while self.read(_BLOCK):
                pass
        return self._failed


class SevenZipCursor:
    """Reads members in the order they come, without starting from the front for each; for one worker child.

    Args:
        open_file: opens the archive.
    """

    def __init__(self, open_file: Callable[[Path], BinaryIO] = open_regular) -> None:
        self._open = open_file
        self._identity: object = None
        self._file: BinaryIO | None = None
        self._archive: SevenZip | None = None
        self._members: Iterator[tuple[int, SevenZipMember]] = iter(())
        self._passed = 0

    def open_member(self, archive: Path, member: str, bound: Bound, number: int | None = None) -> IO[bytes]:
        """The bytes of a member, to be read before the next is opened; `number` as for a `TarCursor`.

        Raises:
            NotFound: no such member.
            TooLarge: it says that it is above the bound; nothing of it was unpacked.
            UnsupportedFormat, RuntimeError, NotImplementedError, ValueError: as `SevenZip`.
        """
        identity = (archive, facts_of(archive.stat()))
        for place in dict.fromkeys((number, None)):
            for fresh_start in (False, True):
                if self._file is None or self._identity != identity or fresh_start:
                    self.close()
                    self._file = self._open(archive)
                    self._archive = SevenZip(self._file)
                    self._members, self._identity = enumerate(self._archive.members()), identity
                try:
                    if (found := self._seek(member, place)) is not None:
                        bound.check(name_of(member), found.size)
                        return found.content
                except Exception:
                    self.close()
                    raise
        raise NotFound(f"no member {member!r} in {archive}")

    def _seek(self, member: str, number: int | None) -> SevenZipMember | None:
        while number is None or self._passed <= number:
            at, found = next(self._members, (0, None))
            if found is None:
                break
            self._passed = at + 1
            if found.is_file and found.name == member and number in (None, at):
                return found
        return None

    def close(self) -> None:
        """Let go of the archive. Safe to call twice."""
        if self._archive is not None:
            self._archive.close()
        if self._file is not None:
            self._file.close()
        self._archive, self._file, self._members, self._identity, self._passed = None, None, iter(()), None, 0


def _member(entry: Any, content: IO[bytes]) -> SevenZipMember:
    is_link = entry.is_symlink or entry.is_junction
    is_file = not (entry.is_directory or entry.is_socket or is_link)
    return SevenZipMember(entry.filename, entry.uncompressed, is_file, is_link, content)


def _said(error: Exception) -> str:
    """What py7zr raised, where it says something of the archive; else it is raised again.

    It is a parser of hostile files: struct.error, KeyError, its own classes, and bz2's OSError, which has no number.
    """
    from billiard.exceptions import SoftTimeLimitExceeded  # here: 9 ms of each command otherwise

    is_of_us = isinstance(error, MemoryError | SoftTimeLimitExceeded)
    if is_of_us or (isinstance(error, OSError) and error.errno is not None):
        raise error
    return f"{type(error).__name__}: {first_line(error, 200)}"


def _refuse_coder(coder: dict[str, Any]) -> None:
    method, properties = bytes(coder["method"]), bytes(coder["properties"] or b"")
    if method == _AES:
        raise RuntimeError("its members are encrypted")
    if coder["numinstreams"] != 1 or coder["numoutstreams"] != 1:
        raise NotImplementedError("several streams of one member: BCJ2")
    window = 0
    if method == _LZMA2:
        code = properties[0] if properties else 0
        window = 2**32 if code >= 40 else (2 | code & 1) << (code // 2 + 11)
    elif method in (_LZMA, _PPMD) and len(properties) >= 5:
        window = struct.unpack_from("<I", properties, 1)[0]
    elif method not in _PLAIN | _BRANCHES:
        raise NotImplementedError(f"method {method.hex()}")
    if window > MOST_WINDOW_BYTES:
        raise NotImplementedError(
            f"a dictionary of {window >> 20} MiB, and at most {MOST_WINDOW_BYTES >> 20} are held here"
        )
