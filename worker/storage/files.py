"""How an image's bytes reach a worker: a URI becomes a local path, for as long as the image runs.

``file:///path``                     the file itself, nothing is copied
``zip+file:///archive.zip#member``   the member, copied to the spool
``tar+file:///archive.tar.gz#member``  likewise; of any compression (tars.py)
``sevenzip+file:///archive.7z#member``  likewise, with the extra `archives` (sevenzip.py)
``tar+file:///archive.tar?member=7#name``  of several members of one name the one with this number, from 0 (7z too)
``redis-blob://job.epoch/index``, ``s3://``, ``https://``  copied to the spool by a fetcher (broker/blobs.py, remote.py)

Paths and members are percent-encoded bytes (``os.fsencode``), so that any name a file system allows survives JSON.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from detector.errors import ImageError, NotFound, ReadFailed, UnsupportedFormat
from detector.images.regular_file import SeenPath, identity_of, open_regular, raise_read_error, read_error
from worker.storage.archive_errors import BROKEN_ARCHIVE, member_error, name_of
from worker.storage.bound import Bound
from worker.storage.held_copies import held_copy
from worker.storage.kept import Kept
from worker.storage.real_path import place_of, real_path
from worker.storage.sevenzip import SevenZipCursor
from worker.storage.spool import (
    MachineFault,
    is_of_the_machine,
    machine_faults,
    make_private,
    raise_machine_fault,
    want_of_the_machine,
    write_chunks,
)
from worker.storage.tars import TarCursor
from worker.storage.zips import ZipCursor

if TYPE_CHECKING:
    from worker.storage.way import Way

# A zip bomb must not fill the disk of a 10 GB machine. 80 MP of 16-bit RGB are 480 MB.
MAX_MEMBER_BYTES = 1 << 30
_FORWARD = ("tar+file", "sevenzip+file")  # a member may have to be read past all that lies before it
_ARCHIVES = ("zip+file", *_FORWARD)
_UNTAKEN: tuple[type[Exception], ...] = (*BROKEN_ARCHIVE, ImageError)


# Copies what is at a URI to a file, or raises an ImageError.
Fetch = Callable[[str, Path], None]


def path_of(uri: str) -> Path:
    """The local path of a ``file://`` part of a URI; non-UTF-8 bytes come back as surrogates (``os.fsdecode``)."""
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))


def number_of(uri: str) -> int | None:
    """Which entry of its archive an address means; None: any of that name."""
    value = parse_qs(urlsplit(uri).query).get("member", [""])[0]
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 12 else None


class Storage:
    """Opens URIs under allowed roots. One per worker child.

    Attributes:
        roots: folders a path must resolve into; empty allows any.
        spool: folder for copies: members of archives, and what fetchers bring.
        fetchers: scheme -> what brings its bytes.
        any_path: whether files are open to everybody where ``roots`` is empty.
        make_spool: makes the spool before each copy, or refuses one that is not ours alone.
        outside: what is said of a path outside ``roots``, beside that it is.
        way: is told of the way to members, which may be long; None: nobody is.
    """

    def __init__(
        self,
        roots: tuple[Path, ...],
        spool: Path,
        fetchers: Mapping[str, Fetch] | None = None,
        *,
        any_path: bool = True,
        make_spool: Callable[[Path], None] = make_private,
        outside: str = "add its folder to OCRFLEET_ROOTS on this worker",
        way: Way | None = None,
    ) -> None:
        self.roots = roots
        self.spool = spool
        self.fetchers = dict(fetchers or {})
        self.any_path = any_path
        self.make_spool = make_spool
        self.outside = outside
        self.way = way
        self._kept = {
            "zip+file": Kept(ZipCursor, self._archive),
            "tar+file": Kept(TarCursor, self._archive),
            "sevenzip+file": Kept(SevenZipCursor, self._archive),
        }

    @contextmanager
    def open(self, uri: str, name: str = "") -> Iterator[Path]:
        """A local path to the bytes of ``uri``, to be opened by `open_regular`; a copy in the spool is removed on exit.

        Args:
            uri: the address.
            name: the picture's, where its address has none (`redis-blob:`): its suffix is kept; a TGA has no sign.

        Raises:
            NotFound: no such file or member, outside the allowed roots, or unreadable.
            ReadFailed: the disk or the network kept the file from being opened; it may be fine.
            UnsupportedFormat: not a scheme of ours.
            CorruptImage: the archive is broken.
            TooLarge: the member is larger than ``MAX_MEMBER_BYTES``.
            MachineFault: the spool is full, or a disk does not work; the page may be fine.
        """
        scheme = uri.partition("://")[0]
        if scheme == "file":
            with self._to_read(uri) as file:
                yield SeenPath.to(file.name, identity_of(file) if self.roots else None)
        elif scheme in _ARCHIVES:
            archive = self._allowed(uri)
            member = unquote_to_bytes(urlsplit(uri).fragment)
            with self._copy_of(member) as copy:
                name = member.decode("utf-8", "surrogateescape")  # as archives have it, whatever the locale
                self.extract(scheme, archive, name, copy, number=number_of(uri))
                yield copy
        elif scheme in self.fetchers:
            address = re.split("[?#]", uri, maxsplit=1)[0]  # not urlsplit, which raises where it is none
            with self._copy_of(name.encode(errors="replace") or unquote_to_bytes(address)) as copy:
                self.fetchers[scheme](uri, copy)
                yield copy
        else:
            known = ", ".join(("file", *_ARCHIVES, *self.fetchers))
            raise UnsupportedFormat(f"cannot open {scheme}:// (known: {known})")

    @contextmanager
    def open_file(self, uri: str, name: str = "") -> Iterator[BinaryIO]:
        """As `open`, but what is read is what was looked at: no link that takes a file's place leads out of the roots.

        Raises:
            NotFound, UnsupportedFormat, CorruptImage, TooLarge, MachineFault: as for `open`.
        """
        if uri.startswith("file://"):
            with self._to_read(uri) as file:
                yield file
        else:
            with self.open(uri, name) as copy, open_regular(copy) as file:
                yield file

    def _to_read(self, uri: str) -> BinaryIO:
        path = self._allowed(uri)
        try:
            return self._opened(path)
        except OSError as error:
            if is_of_the_machine(error):
                raise ReadFailed(str(path), error) from error
            raise NotFound(f"{path}: cannot be opened: {error.strerror or error}") from error

    def _opened(self, path: Path) -> BinaryIO:
        """The file, in the roots: who looks at a name, and opens it then, may have opened what came in between."""
        file = open_regular(path)
        if not self._takes(place_of(file.fileno(), file.name)):
            file.close()
            raise self._is_outside(path)
        return file

    def _archive(self, path: Path) -> BinaryIO:
        file = self._opened(path)
        return file if self.way is None else self.way.watched(file)

    def _takes(self, real: Path) -> bool:
        return (self.any_path and not self.roots) or any(real.is_relative_to(root) for root in self.roots)

    def _is_outside(self, path: Path) -> NotFound:
        return NotFound(f"{path} is outside the allowed roots ({self.outside})")

    def _allowed(self, uri: str) -> Path:
        path = path_of(uri)
        try:
            real = real_path(path)
        except ValueError:
            raise NotFound(f"no path: {path!a:.200}") from None  # a NUL in it
        except OSError as error:  # not there, and too long to tell whether it would lie in the roots
            if (fault := want_of_the_machine(error)) is not None:
                raise fault from None
            if self.roots or not self.any_path:
                raise self._is_outside(path) from None
            raise NotFound(f"{path}: cannot be opened: {error.strerror or error}") from None
        # First of all, and in the same words whether it is there or not: records must not tell what else a disk holds.
        if not self._takes(real):
            raise self._is_outside(path)
        try:
            real.stat()
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and is_of_the_machine(error):
                raise ReadFailed(str(path), error) from error
            raise NotFound(f"no such file: {path} (does this machine see the producer's folder?)") from None
        if not real.is_file():
            raise NotFound(f"not a regular file: {path}")
        if not os.access(real, os.R_OK):
            raise NotFound(f"no permission to read {path}")
        return real

    @contextmanager
    def _copy_of(self, member: bytes) -> Iterator[Path]:
        """An empty file for it, for as long as it is open."""
        with machine_faults(self.spool):
            self.make_spool(self.spool)
        with held_copy(self.spool, suffix_of(member)) as copy:
            yield copy

    def extract(
        self,
        scheme: str,
        archive: Path,
        member: str,
        copy: Path,
        bound: Bound | None = None,
        *,
        number: int | None = None,
    ) -> None:
        """Copy a member of an archive to a file.

        Args:
            scheme: of its address.
            archive: the file.
            member: its name in there.
            copy: the file to write.
            bound: how large it may be; default: ``MAX_MEMBER_BYTES``.
            number: which of the archive's entries it is, from 0, where that is known: names may be there twice.

        Raises:
            NotFound, UnsupportedFormat, CorruptImage, TooLarge, MachineFault: as for `open`.
        """
        kept = self._kept[scheme]
        bound = bound or Bound(MAX_MEMBER_BYTES, "unpack the archive")
        began = time.monotonic()
        try:
            with nullcontext() if self.way is None else self.way.going():
                source = kept.open_member(archive, member, bound, number)
            with source:
                write_chunks(bound.pieces(source, name_of(member)), copy)
            raise_read_error(kept.file)
        except MachineFault:  # of the spool: the archive stays open
            raise
        except _UNTAKEN as error:
            failed = read_error(kept.file)  # whatever was made of it: tarfile takes some for the archive's end
            if failed or isinstance(error, OSError):
                kept.drop()  # a handle that a network folder has given up must not be kept
            raise_machine_fault(error, archive)
            if failed:
                raise MachineFault(failed.errno, failed.strerror, str(archive)) from error
            if isinstance(error, ImageError):
                raise
            raise member_error(error, member, archive) from None
        except BaseException:
            kept.drop()  # the time limit, or no memory, in the middle of a read: nobody knows where it stands
            raise
        finally:
            kept.spent(time.monotonic() - began)
            if self.way is not None and scheme in _FORWARD:
                self.way.holds(sum(self._kept[each].way_s() for each in _FORWARD))

    def close(self) -> None:
        """Let go of all archives."""
        for kept in self._kept.values():
            kept.close()


def suffix_of(member: bytes) -> str:
    """The suffix that a copy of a member gets; a member may be called anything, and no file system must take that."""
    suffix = Path(os.fsdecode(member)).suffix
    return suffix if suffix.isascii() and suffix[1:].isalnum() and len(suffix) < 16 else ""


def spool_usage(spool: Path) -> int:
    """Bytes that temporary files of ours take on this machine."""
    try:
        return sum(entry.stat().st_size for entry in os.scandir(spool) if entry.is_file(follow_symlinks=False))
    except OSError:
        return 0


def free_bytes(spool: Path) -> int:
    """Bytes left on the spool's file system."""
    existing = next(folder for folder in (spool, *spool.parents) if folder.exists())
    return shutil.disk_usage(existing).free
