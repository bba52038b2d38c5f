"""Folders in sorted order, however many files they hold, and never in circles."""

import errno
import heapq
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from fnmatch import fnmatchcase
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from producer.errors import ProducerError
from worker.storage.real_path import open_folder, real_or_named, real_path
from worker.storage.spool import want_of_the_machine

Warn = Callable[[str], None]
SORT_IN_MEMORY = 100_000  # names; about 10 MB. A larger folder is sorted through temporary files.


_THE_FOLDERS_OWN = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""Errors of listing a folder that another look would meet again: it is passed over, and counted. Others are a disk's,
a network's or this process's (EIO, ESTALE, EMFILE): a manifest without its files would be taken for the whole."""


class ScanStoppedError(ProducerError):
    """A folder could not be listed now, or a file not be looked at for want of something of this machine.

    Its files, or pages, would be missing; the message names it and the remedy.
    """


def stop_for_want(path: Path, error: Exception) -> None:
    """For use where a file is about to be passed over, or taken for less than it is.

    Raises:
        ScanStoppedError: this machine had no file, memory or process to look at it with.
    """
    if (fault := want_of_the_machine(error)) is not None:
        raise _stopped(path, fault) from error


def _stopped(path: Path, error: OSError) -> ScanStoppedError:
    said = f"{display(path)}: it cannot be read ({error.strerror or error})"
    return ScanStoppedError(f"{said}; give the same command again, or name other folders")


class Entry(NamedTuple):
    """One name in a folder. A link counts as what it points to; a dangling link counts as a file."""

    name: bytes
    is_dir: bool
    is_link: bool


def sorted_lines(lines: Iterable[bytes], *, in_memory: int = SORT_IN_MEMORY) -> Iterator[bytes]:
    """Sorts byte strings that hold no `/`, keeping at most `in_memory` of them in memory."""
    source = iter(lines)
    with ExitStack() as stack:
        runs: list[BinaryIO] = []
        chunk = sorted(islice(source, in_memory))
        while len(chunk) == in_memory:
            runs.append(stack.enter_context(_on_disk(chunk)))
            chunk = sorted(islice(source, in_memory))
        yield from heapq.merge(chunk, *map(_split, runs)) if runs else chunk


def _on_disk(lines: list[bytes]) -> BinaryIO:
    folder = "a temporary folder"
    try:
        folder = tempfile.gettempdir()
        run = tempfile.TemporaryFile(prefix="ocrfleet-sort-", dir=folder)  # noqa: SIM115  # kept until it is read
        run.writelines(line + b"/" for line in lines)
        run.seek(0)
    except OSError as error:
        why = f"a folder of more than {SORT_IN_MEMORY:,} files is sorted there"
        raise ScanStoppedError(f"{folder}: {error.strerror or error}: {why}; make room, or set TMPDIR") from error
    return run


def _split(run: BinaryIO, block: int = 1 << 16) -> Iterator[bytes]:
    rest = b""
    while data := run.read(block):
        *whole, rest = (rest + data).split(b"/")
        yield from whole


def list_folder(
    folder: Path, real: str = "", *, in_memory: int = SORT_IN_MEMORY, look: Callable[[], None] = lambda: None
) -> Iterator[Entry]:
    """The visible names of one folder, sorted by their bytes.

    Args:
        folder: what it is called.
        real: where it must lie, a path without links; empty: anywhere.
        in_memory: as for `sorted_lines`.
        look: called at each name, as it is listed; what it raises ends that.

    Raises:
        OSError: the folder cannot be read; or it lies elsewhere.
    """

    def encoded() -> Iterator[bytes]:
        descriptor = open_folder(folder, real)
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    look()
                    if not entry.name.startswith("."):
                        kind = _kind(entry)
                        if kind:
                            # NUL sorts before every byte a name can hold, so sorting the line sorts the name.
                            yield os.fsencode(entry.name) + b"\0" + kind
        finally:
            os.close(descriptor)

    for line in sorted_lines(encoded(), in_memory=in_memory):
        name, kind = line[:-2], line[-1:]
        yield Entry(name, is_dir=kind in b"dD", is_link=kind in b"DF")


def _kind(entry: os.DirEntry[str]) -> bytes:
    """d, f: folder, file; D, F: the same through a link; empty: a device, socket or pipe, which we never open."""
    try:
        link = entry.is_symlink()
        if entry.is_dir():
            return b"D" if link else b"d"
        if entry.is_file():
            return b"F" if link else b"f"
        if link:
            entry.stat()
        return b""
    except OSError:  # a link to nothing or to itself, or no permission to look: opening it later says what is wrong
        return b"F"


class FoundFile(NamedTuple):
    """A file met on a walk: where it is, and its name relative to the walk's start."""

    path: Path
    name: bytes


def walk(
    root: Path,
    *,
    enter: Callable[[Path, int], bool] = lambda folder, depth: True,
    warn: Warn = lambda line: None,
    outside: Callable[[Path], bool] = lambda link: True,
    look: Callable[[], None] = lambda: None,
) -> Iterator[FoundFile]:
    """All files below `root`, folder by folder in sorted order.

    Links to folders are followed unless the walk would meet those files anyway: a link into the walked tree, or to
    a folder above its root, is passed over. So loops end, and no file is found twice through a folder link. A folder
    that becomes a link, or lies below one, between the look at its name and its turn is not read.

    Args:
        root: an existing folder.
        enter: asked before each folder below the root with its path and depth (root's own children: 1).
        warn: told in one line about each folder that may not be read, or has moved.
        outside: asked before each link, to a file or a folder, that leads out of `root`.
        look: called at each name, as it is listed and in its turn; what it raises ends the walk.

    Raises:
        ScanStoppedError: a folder could not be listed now.
    """
    listed = partial(list_folder, look=look)
    start = real_or_named(root)
    trees = _Trees(start)
    stack = [_Folder(root, b"", str(start), listed(root, str(start)))]
    while stack:
        look()
        folder = stack[-1]
        try:
            entry = next(folder.entries, None)
        except OSError as error:
            if error.errno not in _THE_FOLDERS_OWN:
                raise _stopped(folder.path, error) from error
            warn(f"{display(folder.path)}: folder skipped, it cannot be read ({error.strerror or error})")
            entry = None
        if entry is None:
            stack.pop()
            continue
        own = os.fsdecode(entry.name)
        path = folder.path / own
        name = folder.prefix + entry.name
        target = None
        if entry.is_link:
            try:
                target = real_path(path)
                leads_out = not trees.in_root(target)
            except OSError:  # nobody can tell
                leads_out = True
            if leads_out and not outside(path):
                continue
        if not entry.is_dir:
            yield FoundFile(path, name)
        elif not enter(path, len(stack)):
            continue
        elif not entry.is_link:
            real = f"{folder.real.rstrip('/')}/{own}"
            if not trees.begins_at(real):
                stack.append(_Folder(path, name + b"/", real, listed(path, real)))
        elif target and trees.is_new(target):
            stack.append(_Folder(path, name + b"/", str(target), listed(path, str(target))))


def matches(parts: list[str], pattern: tuple[str, ...]) -> bool:
    """Whether a glob matches a path, or a folder on the way to it; however many of those there are.

    Args:
        parts: of the path.
        pattern: one part per folder level; `**` stands for any number of them.
    """
    places = {0}  # in the pattern: what is still to be matched may begin there
    for part in parts:
        _pass_stars(places, pattern)
        places.discard(len(pattern))  # of `**` alone, before the first part
        stay = {place for place in places if pattern[place] == "**"}
        places = stay | {place + 1 for place in places - stay if fnmatchcase(part, pattern[place])}
        _pass_stars(places, pattern)
        if len(pattern) in places:
            return True
    return False


def _pass_stars(places: set[int], pattern: tuple[str, ...]) -> None:
    """`**` may stand for no folder at all."""
    for place in sorted(places):
        while place < len(pattern) and pattern[place] == "**":
            place += 1
            places.add(place)


class _Folder(NamedTuple):
    """One that a walk is in: what it and its files are called, where it lies without links, and what is left of it."""

    path: Path
    prefix: bytes
    real: str
    entries: Iterator[Entry]


class _Trees:
    """The folders that a walk meets with all that lies below them: its root, and those that links lead to.

    Each question takes as many steps as a path has parts, however many trees there are. (To compare with each of them
    took 25 s for 2,000 links, and 40 minutes for 20,000, a megabyte of a folder; nothing is found meanwhile.)
    """

    def __init__(self, root: Path) -> None:
        self._root = str(root).rstrip("/")
        marks = _marks(root)
        self._above = set(marks)
        self._met = {marks[-1]}
        self._linked: set[bytes] = set()

    def in_root(self, target: Path) -> bool:
        """Whether a real path is the root or lies below it."""
        return str(target) == self._root or str(target).startswith(self._root + "/")

    def is_new(self, target: Path) -> bool:
        """Whether a real folder holds files that the walk does not meet by itself; remembers it if so."""
        marks = _marks(target)
        if marks[-1] in self._above:
            return False
        for number, mark in enumerate(reversed(marks)):
            if mark in self._met:
                self._met.update(marks[len(marks) - number :])
                return False
            if mark.startswith(b"."):  # a walk from above does not come in here
                break
        self._met.add(marks[-1])
        self._linked.add(marks[-1][1:])
        return True

    def begins_at(self, real: str) -> bool:
        """Whether a link led to this folder before: what links lead to may lie in what a later link leads to."""
        return bool(self._linked) and _digest(os.fsencode(real) + b"/") in self._linked


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def _marks(folder: Path) -> list[bytes]:
    """Of the folders on the way to a real folder, and of itself: 17 bytes in place of a path, which may have 4,096.

    Those of hidden folders begin with a dot.
    """
    way, marks = blake2b(digest_size=16), []
    for part in os.fsencode(folder).rstrip(b"/").split(b"/"):
        way.update(part + b"/")
        marks.append((b"." if part.startswith(b".") else b"/") + way.copy().digest())
    return marks


def display(path: Path | bytes) -> str:
    r"""A path as text that any JSON encoder and terminal takes: bytes that are not UTF-8 are shown as \xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
