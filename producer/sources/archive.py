"""What is inside a zip or tar: names only, nothing is unpacked to disk under a member's name."""

import lzma
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, BinaryIO, Literal, NamedTuple, cast

from detector.errors import first_line
from producer.errors import ProducerError
from producer.sources.page_count import CannotCountError, count_pages

ZIP_SUFFIXES = (".zip", ".cbz")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
# A PDF or TIFF inside an archive is copied to a temporary file to count its pages, up to this many bytes.
COUNT_LIMIT = 256 << 20
BROKEN = (
    OSError,
    EOFError,
    ValueError,  # also UnicodeDecodeError, for a member name that breaks its own flag
    NotImplementedError,
    RuntimeError,  # zipfile: an encrypted member
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
)

Kind = Literal["zip", "tar"]


class BrokenArchiveError(ProducerError):
    """The archive cannot be read (further); the message is one line."""


class Member(NamedTuple):
    """One visible file in an archive.

    Attributes:
        name: as stored, for the worker to ask for; bytes, because tar names are.
        count_pages: pages of a PDF or TIFF member with the given suffix; raises `CannotCountError`. Only valid until
            the next member is asked for.
    """

    name: bytes
    count_pages: Callable[[str], int]


def archive_kind(name: str) -> Kind | None:
    """`zip`, `tar` or None, by the file's name."""
    lower = name.lower()
    if lower.endswith(ZIP_SUFFIXES):
        return "zip"
    return "tar" if lower.endswith(TAR_SUFFIXES) else None


def members(archive: Path, kind: Kind) -> Iterator[Member]:
    """The visible files in an archive, in its own order; folders, links and hidden names are passed over.

    A tar is read as a stream and costs no memory; a zip costs its table of contents.

    Raises:
        BrokenArchiveError: at the point where reading fails, perhaps after some members.
    """
    try:
        yield from _zip_members(archive) if kind == "zip" else _tar_members(archive)
    except BROKEN as error:
        raise BrokenArchiveError(f"{type(error).__name__}: {first_line(error, 200)}") from error


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as bundle:
        for info in bundle.infolist():
            # A name stored twice means its last copy, which is also the one a worker gets when it asks by name.
            if info.is_dir() or _hidden(info.filename) or bundle.getinfo(info.filename) is not info:
                continue
            if stat.S_ISLNK(info.external_attr >> 16):
                continue

            yield Member(_bytes(info.filename), partial(_count_spooled, partial(bundle.open, info)))


def _tar_members(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive, "r|*") as bundle:
        for info in bundle:
            bundle.members = []  # type: ignore[attr-defined]  # tarfile keeps every header it has seen otherwise
            if not info.isfile() or _hidden(info.name):
                continue

            yield Member(_bytes(info.name), partial(_count_spooled, partial(bundle.extractfile, info)))


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _count_spooled(open_member: Callable[[], IO[bytes] | None], suffix: str) -> int:
    with tempfile.TemporaryFile(prefix="ocrfleet-count-") as spool:
        try:
            with open_member() or BytesIO() as source:
                copied = 0
                while block := source.read(1 << 20):
                    copied += len(block)  # counted, not believed: a member's stated size may lie
                    if copied > COUNT_LIMIT:
                        raise CannotCountError(f"it is larger than {COUNT_LIMIT >> 20} MB; unpack it to get every page")
                    spool.write(block)
        except BROKEN as error:
            raise CannotCountError(f"{type(error).__name__}: {first_line(error, 200)}") from error
        spool.seek(0)
        return count_pages(cast("BinaryIO", spool), suffix)


def _hidden(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return "__MACOSX" in parts or any(part.startswith(".") and part not in (".", "..") for part in parts)
