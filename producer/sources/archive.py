"""What is inside a zip, tar or 7z: names and first bytes only, nothing is unpacked to disk under a member's name."""

import os
import posixpath
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from io import BufferedReader, BytesIO, RawIOBase
from pathlib import Path
from typing import IO, BinaryIO, Literal, NamedTuple, Protocol, cast

from detector.errors import first_line
from detector.images.regular_file import open_regular
from detector.images.sniff import PAGED_KINDS, SNIFFED_BYTES, kind_of
from producer.errors import CannotCountError, ProducerError
from producer.sources.allowance import Allowance, TooLongError
from producer.sources.held_bytes import held_bytes
from producer.sources.page_count import CountPdf, PageCount, count_pages
from producer.sources.passed_over import (
    LINKS,
    LONG_NAMED,
    MOST_NAME_BYTES,
    NAMELESS,
    REPLACED,
    UNKNOWN,
    PassedOver,
    is_junk,
    junk_kind,
)
from producer.sources.zip_names import ZipNames
from worker.storage import sevenzip
from worker.storage.spool import MachineFault
from worker.storage.tars import can_open_zstd, goes_on, open_tar

ZIP_SUFFIXES = (".zip", ".cbz")
SEVENZIP_SUFFIXES = (".7z", ".cb7")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
ZSTD_SUFFIXES = (".tar.zst", ".tzst")
# A PDF or TIFF inside an archive is copied to a temporary file to count its pages, up to this many bytes.
COUNT_LIMIT = 256 << 20
# Of a tar: smaller members are read through, as a disk likes it, and what lies between larger ones is not.
READ_AHEAD = 256 << 10
# Page counts of members that later links of the same tar may point to.
KEPT_COUNTS = 10_000
# What begins a member of a zip.
_LOCAL = b"PK\x03\x04"
# Types of entries in a tar that are files, links, folders or devices; V and D are GNU's label and its list of a folder.
_KNOWN_TYPES = {*tarfile.SUPPORTED_TYPES, b"V", b"D"}
Open = Callable[[], IO[bytes] | None]
CountMember = Callable[[Open, str], PageCount]
"""What opens a member, and its name -> its pages."""

Kind = Literal["zip", "tar", "7z"]
SCHEMES: dict[Kind, str] = {"zip": "zip+file", "tar": "tar+file", "7z": "sevenzip+file"}
"""Of the URIs of members; a scheme must begin with a letter."""


class BrokenArchiveError(ProducerError):
    """The archive cannot be read (further); the message is one line."""


class UnreadArchiveError(BrokenArchiveError):
    """The disk or the network did not give it, whatever is in it. The message is what the system says."""


class Member(NamedTuple):
    """One visible file in an archive.

    Attributes:
        name: as stored, for the worker to ask for; bytes, because tar names are. Of a link, its target's.
        shown: the name people see.
        look: counts its pages, by what it holds; raises `CannotCountError`. Valid until the next member is asked for.
        number: which entry it is, from 0: a tar or 7z may hold a name twice, and both are pages.
    """

    name: bytes
    shown: bytes
    look: Callable[[], PageCount]
    number: int | None = None


class ListMembers(Protocol):
    """What lists an archive: `members` in this process, `producer.archive_process.lister` in one with limits."""

    def __call__(
        self,
        archive: Path,
        kind: Kind,
        *,
        passed: PassedOver | None = None,
        count_pdf: CountPdf | None = None,
        zip_encoding: str = "",
    ) -> Iterator[Member]:
        """See `members`."""


def archive_kind(name: str) -> Kind | None:
    """`zip`, `tar`, `7z` or None, by the file's name; None also of what needs an extra that is not installed here."""
    lower = name.lower()
    if lower.endswith(ZIP_SUFFIXES):
        return "zip"
    if lower.endswith(TAR_SUFFIXES) or (lower.endswith(ZSTD_SUFFIXES) and can_open_zstd()):
        return "tar"
    return "7z" if lower.endswith(SEVENZIP_SUFFIXES) and sevenzip.can_open() else None


def members(
    archive: Path,
    kind: Kind,
    *,
    passed: PassedOver | None = None,
    count_pdf: CountPdf | None = None,
    zip_encoding: str = "",
    stream: BinaryIO | None = None,
    allowance: Allowance | None = None,
) -> Iterator[Member]:
    """The visible files in an archive, in its own order; folders and hidden names are passed over.

    A tar is read forward and costs no memory; a zip or 7z costs its table of contents.

    Args:
        archive: the file.
        kind: what it is.
        passed: counts what is passed over.
        count_pdf: what counts the pages of a PDF; default: pypdf, in this process.
        zip_encoding: of names that do not say theirs; empty to guess.
        stream: the open file, to be read instead of opening it again.
        allowance: what it may cost; default: by its size.

    Raises:
        BrokenArchiveError: at the point where reading fails, perhaps after some members.
        MemoryError: there is not enough for it.
        MachineFault: what unpacks it cannot be started.
    """
    passed = passed if passed is not None else PassedOver()
    done = 0
    try:
        allowance = allowance or Allowance(held_bytes(archive, archive.stat()))
        count = partial(_count_member, count_pdf, allowance)
        with nullcontext(stream) if stream else open_regular(archive) as opened:
            if kind == "zip":
                found = _zip_members(opened, passed, count, zip_encoding)
            else:
                found = (_tar_members if kind == "tar" else _sevenzip_members)(opened, passed, count)
            for member in found:
                allowance.check()
                if max(len(member.name), len(member.shown)) > MOST_NAME_BYTES:
                    passed.add(LONG_NAMED)
                    continue
                yield member
                done += 1
    except (MemoryError, MachineFault):
        raise
    except TooLongError as error:
        raise BrokenArchiveError(f"after {done} members: {error}") from error
    # Three bytes of .gz are a TypeError, a zip member without a name is an IndexError: readers of hostile files raise
    # whatever they like.
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error, 200)}"
        if isinstance(error, zipfile.BadZipFile) and not done:
            done, reason = _local_headers(archive), "its table of contents is missing; zip -FF may put it back"
        raise BrokenArchiveError(f"after {done} members: {reason}") from error


def _zip_members(archive: BinaryIO, passed: PassedOver, count: CountMember, zip_encoding: str) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as bundle:
        names = ZipNames(bundle.infolist(), zip_encoding)
        for info in bundle.infolist():
            if not info.filename:
                passed.add(NAMELESS)
                continue
            if info.is_dir() or _hidden(info.filename, passed):
                continue
            # A name stored twice means its last copy, which is also the one a worker gets when it asks by name.
            if bundle.getinfo(info.filename) is not info:
                passed.add(REPLACED)
                continue
            if stat.S_ISLNK(info.external_attr >> 16):
                passed.add(LINKS)
                continue
            look = partial(count, partial(bundle.open, info), info.filename)
            yield Member(_bytes(info.filename), _bytes(names.shown(info)), look)
        if reason := _left_out(archive, bundle):
            raise zipfile.BadZipFile(reason)


def _left_out(archive: BinaryIO, bundle: zipfile.ZipFile) -> str:
    """Why a zip holds more members than its table of contents lists; empty if nothing says that it does.

    zipfile says nothing of any of it: pages of two zips that were put together were nowhere. Beginning or end alone
    may be anything: self-extracting ones begin as programs, some programs leave members that were replaced in the
    middle, and a table of over 65,535 gives their number modulo 65,536.
    """
    end = zipfile._EndRecData(archive)  # type: ignore[attr-defined]  # what it has found the table by
    said, offset, comment, place = end[4], end[6], end[7], end[9]
    if said > len(bundle.filelist):
        return f"its table of contents says {said:,} members and lists {len(bundle.filelist):,}"
    archive.seek(0)
    if bundle.start_dir > offset and archive.read(4) == _LOCAL:
        return "another zip lies before it; unpack it first"
    archive.seek(place + 22 + comment)
    return "there is more behind its end; zip -FF may list it" if archive.read(4) == _LOCAL else ""


def _tar_members(archive: BinaryIO, passed: PassedOver, count: CountMember) -> Iterator[Member]:
    counted: dict[str, PageCount] = {}
    with _read_ahead(archive) as ahead, open_tar(ahead, "|") as bundle:
        for number, info in enumerate(bundle):
            bundle.members = []  # type: ignore[attr-defined]  # tarfile keeps every header it has seen otherwise
            if info.size and info.type not in _KNOWN_TYPES:
                passed.add(UNKNOWN)
            if not (info.isfile() or info.islnk() or info.issym()) or _hidden(info.name, passed):
                continue
            shown = _bytes(info.name)
            if info.isfile():
                look = partial(_count_tar_member, count, partial(bundle.extractfile, info), info.name, counted)
                yield Member(shown, shown, look, number)
            else:
                target = _target(info)
                yield Member(_bytes(target), shown, partial(_known, counted, target))
        if goes_on(bundle):
            raise tarfile.ReadError("there is more behind its end (`tar -i` reads it)")


@contextmanager
def _read_ahead(archive: BinaryIO) -> Iterator[BinaryIO]:
    ahead = BufferedReader(cast("RawIOBase", archive), READ_AHEAD)
    try:
        yield ahead
    finally:
        ahead.detach()  # else it closes the archive


def _sevenzip_members(archive: BinaryIO, passed: PassedOver, count: CountMember) -> Iterator[Member]:
    with closing(sevenzip.SevenZip(archive)) as opened:
        for number, entry in enumerate(opened.members()):
            if entry.is_file and not _hidden(entry.name, passed):
                name = _bytes(entry.name)
                yield Member(name, name, partial(count, partial(_itself, entry.content), entry.name), number)
            elif entry.is_link:
                passed.add(LINKS)


def _itself(content: IO[bytes]) -> IO[bytes]:
    return content


def _known(counted: dict[str, PageCount], name: str) -> PageCount:
    return counted.get(name, PageCount(1))


def _target(link: tarfile.TarInfo) -> str:
    """The member that a link means: hard links name it from the archive's root, symbolic ones from their own folder."""
    if link.islnk():
        return link.linkname
    found = posixpath.normpath(posixpath.join(posixpath.dirname(link.name), link.linkname))
    return f"./{found}" if link.name.startswith("./") and not found.startswith("/") else found  # of `tar cf x.tar .`


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _count_tar_member(count: CountMember, open_member: Open, name: str, counted: dict[str, PageCount]) -> PageCount:
    pages = count(open_member, name)
    if pages.pages > 1 and len(counted) < KEPT_COUNTS:
        counted[name] = pages
    return pages


def _count_member(count_pdf: CountPdf | None, allowance: Allowance, open_member: Open, name: str) -> PageCount:
    try:
        return _count_copied(count_pdf, allowance, open_member, name)
    finally:
        allowance.end()


def _count_copied(count_pdf: CountPdf | None, allowance: Allowance, open_member: Open, name: str) -> PageCount:
    with tempfile.NamedTemporaryFile(prefix="ocrfleet-count-") as spool:
        try:
            with open_member() or BytesIO() as source:
                start = source.read(SNIFFED_BYTES)
                kind = kind_of(start, name)
                if kind not in PAGED_KINDS:
                    return PageCount(1)
                allowance.begin()
                _write(spool.fileno(), start)
                copied = len(start)
                while block := source.read(1 << 20):
                    allowance.unpacked(len(block))
                    copied += len(block)  # counted, not believed: a member's stated size may lie
                    if copied > COUNT_LIMIT:
                        break
                    _write(spool.fileno(), block)
                if copied > COUNT_LIMIT:
                    raise CannotCountError(f"it is larger than {COUNT_LIMIT >> 20} MB; its worker counts them")
        except (CannotCountError, MemoryError):
            raise
        except Exception as error:  # as in `members`
            raise CannotCountError(f"{type(error).__name__}: {first_line(error, 200)}") from error
        spool.seek(0)
        try:
            return count_pages(cast("BinaryIO", spool), kind, Path(spool.name), count_pdf)
        except CannotCountError as error:  # the temporary file's name would tell nobody anything
            raise CannotCountError(str(error).replace(spool.name, name)) from None


def _write(descriptor: int, data: bytes) -> None:
    """Not through a buffer, which would find the disk full where the file is closed: that was damage of the archive."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _hidden(name: str, passed: PassedOver) -> bool:
    parts = name.replace("\\", "/").split("/")
    for part in parts:
        if is_junk(part):
            passed.add(junk_kind(part))
            return True
    return any(part.startswith(".") and part not in (".", "..") for part in parts)


def _local_headers(archive: Path) -> int:
    """Members of a zip whose table of contents is lost, counted by the headers before their data."""
    count, rest = 0, b""
    try:
        with open_regular(archive) as stream:
            while block := stream.read(1 << 20):
                data = rest + block
                count += data.count(_LOCAL)
                rest = data[-3:]
    except OSError:
        pass
    return count
