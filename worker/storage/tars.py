"""Tars of any compression: those that tarfile knows, and Zstandard through `pip install 'ocrfleet[archives]'`."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, cast

from detector.errors import NotFound, UnsupportedFormat
from detector.images.regular_file import facts_of
from worker.storage.archive_errors import MOST_WINDOW_BYTES, name_of, zstd
from worker.storage.bound import Bound

MOST_PADDING = 16 << 20
"""Bytes behind the end of a tar as it is that are looked at: programs pad it to 10 KiB, tape drives to more."""


class _Gzip(gzip.GzipFile):
    """Says in words what its check sum says. gzip stores a JPEG as it is: its spoilt bytes are no error before that."""

    def read(self, size: int | None = -1) -> bytes:
        with _in_words():
            return super().read(size)

    def read1(self, size: int = -1) -> bytes:
        with _in_words():
            return super().read1(size)


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except gzip.BadGzipFile as error:
        if str(error).startswith(("CRC", "Incorrect length")):
            said = "its check sum is wrong: any page of it may be garbled; get it anew"
            raise tarfile.ReadError(said) from error
        raise
    except EOFError as error:
        said = "it is cut off before its check sum: any page of it may be garbled; get it anew"
        raise tarfile.ReadError(said) from error


class _Unpacked:
    """What is unpacked, as it comes. Of 10 KiB that an error ends, `read` lost all: the last pages of a sound tar."""

    def __init__(self, plain: Any) -> None:
        self.read = plain.read1


_UNPACK: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": lambda file: _Gzip(fileobj=file, mode="rb"),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"\x5d\x00\x00": lzma.LZMAFile,
}
"""By the first bytes of what is no tar as it is: a member may be called BZhang. tarfile's own, in its mode for streams,
end with the first of several members."""

_ZSTD = (b"\x28\xb5\x2f\xfd", *(bytes([low]) + b"\x2a\x4d\x18" for low in range(0x50, 0x60)))  # a frame, or one skipped
_ZSTD_ERRORS: tuple[type[Exception], ...] = (zstd.ZstdError,) if zstd else ()


def can_open_zstd() -> bool:
    """Whether tars compressed with Zstandard can be opened here."""
    return zstd is not None


def open_tar(file: BinaryIO, mode: Literal["", "|"] = "") -> tarfile.TarFile:
    """A tar that is open for reading, by what its first bytes say of its compression.

    Args:
        file: the open archive, seekable; the caller closes it.
        mode: "|" to read what is compressed as a stream, in bounded memory. A tar as it is has its members sought:
            of one of 16 TiB, none of which is on the disk, nothing is read.

    Raises:
        UnsupportedFormat: compressed with Zstandard, and the extra is not installed.
        tarfile.ReadError: no tar.
    """
    start = file.read(tarfile.BLOCKSIZE)
    file.seek(0)
    if _is_header(start):
        return _opened(file, "")
    if not start.startswith(_ZSTD):
        # Python 3.14 reads Zstandard by itself, with windows of any size; none of those comes here.
        unpack = next((how for magic, how in _UNPACK.items() if start.startswith(magic)), None)
        return _opened(unpack(file), mode) if unpack else _opened(file, "")
    if zstd is None:
        raise UnsupportedFormat(
            "a tar compressed with Zstandard; pip install 'ocrfleet[archives]' here, or unpack it first"
        )
    window = {zstd.DecompressionParameter.window_log_max: MOST_WINDOW_BYTES.bit_length() - 1}
    return _opened(zstd.ZstdFile(file, options=window), mode)


def _is_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def _opened(plain: Any, mode: str) -> tarfile.TarFile:
    source: Any = _Unpacked(plain) if mode else plain
    # The locale's encoding is tarfile's default, and names from pax headers were others than those from plain ones.
    return tarfile.open(fileobj=source, mode=cast("Any", f"r{mode or ':'}"), tarinfo=_Header, encoding="utf-8")


class _Header(tarfile.TarInfo):
    """A header. One that is damaged or missing is no end of the archive; behind the first tarfile takes it for one."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> _Header:
        begin = tar.offset
        try:
            header = super().fromtarfile(tar)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.SubsequentHeaderError(str(error)) from error  # type: ignore[attr-defined]
        except tarfile.EmptyHeaderError as error:  # type: ignore[attr-defined]
            if not tar.offset:
                raise
            said = "it has no end mark, and may have been cut off"  # which all programs write, zeros of a KB
            raise tarfile.SubsequentHeaderError(said) from error  # type: ignore[attr-defined]
        if tar.offset <= begin:  # a member of less than no bytes: Python before 3.11.14 goes in circles (CVE-2025-8194)
            raise tarfile.SubsequentHeaderError("a member with a negative size")  # type: ignore[attr-defined]
        return header


def goes_on(tar: tarfile.TarFile) -> bool:
    """Whether there is anything but zeros behind the end of a tar that was read to its end.

    A header of zeros ends a tar: one that was lost, or between two tars that were put together. What is compressed is
    read to its own end: only there is its check sum.

    Raises:
        tarfile.ReadError, OSError, lzma.LZMAError, zlib.error: it is damaged, perhaps before the tar's end.
    """
    stream: Any = tar.fileobj
    left = MOST_PADDING if isinstance(stream, io.BufferedReader) else math.inf
    try:
        while left > 0 and (block := stream.read(tarfile.BLOCKSIZE)):  # the error that ends a larger one hides a header
            left -= len(block)
            if block.strip(b"\0"):
                return True
    except (gzip.BadGzipFile, EOFError):  # junk behind what gzip packed; zeros behind .xz, or a part of its index
        pass
    except _ZSTD_ERRORS as error:
        if "Unknown frame" not in str(error):  # junk behind what Zstandard packed
            raise
    return False


class TarCursor:
    """Reads members of a tar in the order they come, without starting from the front for each.

    A tar has no index: looking a member up means reading every header before it, and in a .tar.gz all data too.
    Pages are fed in archive order, so keeping the archive open between tasks makes all pages of one child one pass; a
    child that has come far lives the longer for it (`worker.celery_ext.prefork.PatientWorker`).

    Args:
        open_file: opens the archive.
    """

    def __init__(self, open_file: Callable[[Path], BinaryIO]) -> None:
        self._open = open_file
        self._identity: object = None
        self._tar: tarfile.TarFile | None = None
        self._file: BinaryIO | None = None
        self._passed = 0

    def open_member(self, archive: Path, member: str, bound: Bound, number: int | None = None) -> IO[bytes]:
        """The bytes of a member, to be read before the next is opened.

        Args:
            archive: the tar.
            member: its name.
            bound: how large it may be.
            number: of its header, from 0. A changed picture that was appended (``tar rf``) has the name of the first.

        Raises:
            NotFound: no such member.
            TooLarge: it says that it is above the bound; nothing of it was unpacked.
            tarfile.TarError, OSError, EOFError: the archive is damaged.
        """
        identity = (archive, facts_of(archive.stat()))
        # By its name alone where the number does not lead there: the archive was packed anew since it was listed.
        for header in dict.fromkeys((number, None)):
            for fresh_start in (False, True):
                if self._tar is None or self._identity != identity or fresh_start:
                    self.close()
                    self._file = self._open(archive)
                    self._tar, self._identity, self._passed = open_tar(self._file), identity, 0
                try:
                    source = self._seek(self._tar, member, header, bound)
                except tarfile.ReadError:  # further on; it may lie before that
                    if fresh_start:
                        raise
                    continue
                if source is not None:
                    return source
        raise NotFound(f"no member {member!r} in {archive}")

    def close(self) -> None:
        """Let go of the archive. Safe to call twice."""
        if self._tar is not None:
            self._tar.close()
        if self._file is not None:
            self._file.close()
        self._tar = self._file = None

    def _seek(self, tar: tarfile.TarFile, member: str, number: int | None, bound: Bound) -> IO[bytes] | None:
        while number is None or self._passed <= number:
            info = tar.next()
            if info is None:
                break
            # tarfile remembers every header it saw, about 1 KB each: far too much for a million images.
            tar.members.clear()  # type: ignore[attr-defined]  # typeshed knows only getmembers()
            self._passed += 1
            if info.name == member and info.isfile() and number in (None, self._passed - 1):
                bound.check(name_of(member), info.size)
                return tar.extractfile(info)
        return None
