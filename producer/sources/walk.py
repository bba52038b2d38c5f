"""Folders in sorted order, however many files they hold, and never in circles."""

import heapq
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from worker.storage.real_path import real_or_named, real_path

Warn = Callable[[str], None]
SORT_IN_MEMORY = 100_000  # names; about 10 MB. A larger folder is sorted through temporary files.


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
            run = stack.enter_context(tempfile.TemporaryFile(prefix="ocrfleet-sort-"))
            run.writelines(line + b"/" for line in chunk)
            run.seek(0)
            runs.append(run)
            chunk = sorted(islice(source, in_memory))
        yield from heapq.merge(chunk, *map(_split, runs)) if runs else chunk


def _split(run: BinaryIO, block: int = 1 << 16) -> Iterator[bytes]:
    rest = b""
    while data := run.read(block):
        *whole, rest = (rest + data).split(b"/")
        yield from whole


def list_folder(folder: Path, *, in_memory: int = SORT_IN_MEMORY) -> Iterator[Entry]:
    """The visible names of one folder, sorted by their bytes.

    Raises:
        OSError: the folder cannot be read.
    """

    def encoded() -> Iterator[bytes]:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    kind = _kind(entry)
                    if kind:
                        # NUL sorts before every byte a name can hold, so sorting the line sorts the name.
                        yield os.fsencode(entry.name) + b"\0" + kind

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
        return b"F" if link and not Path(entry.path).exists() else b""
    except OSError:  # a link to itself, or no permission to look: opening it later says what is wrong
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
) -> Iterator[FoundFile]:
    """All files below `root`, folder by folder in sorted order.

    Links to folders are followed unless the walk would meet those files anyway: a link into the walked tree, or to
    a folder above it, is passed over. So loops end, and no file is found twice through a folder link.

    Args:
        root: an existing folder.
        enter: asked before each folder below the root with its path and depth (root's own children: 1).
        warn: told in one line about each folder that cannot be read.
        outside: asked before each link, to a file or a folder, that leads out of `root`.
    """
    trees = _Trees(real_or_named(root))
    stack: list[tuple[Path, bytes, Iterator[Entry]]] = [(root, b"", list_folder(root))]
    while stack:
        folder, prefix, entries = stack[-1]
        try:
            entry = next(entries, None)
        except OSError as error:
            warn(f"{display(folder)}: folder skipped, it cannot be read ({error.strerror or error})")
            entry = None
        if entry is None:
            stack.pop()
            continue
        path = folder / os.fsdecode(entry.name)
        name = prefix + entry.name
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
        elif enter(path, len(stack)) and (not entry.is_link or (target and trees.is_new(target))):
            stack.append((path, name + b"/", list_folder(path)))


class _Trees:
    """The folders that a walk meets with all that lies below them: its root, and those that links lead to.

    Each question takes as many steps as a path has parts, however many trees there are. (To compare with each of them
    took 25 s for 2,000 links, and 40 minutes for 20,000, a megabyte of a folder; nothing is found meanwhile.)
    """

    def __init__(self, root: Path) -> None:
        self._root = str(root).rstrip("/")
        self._met: set[bytes] = set()
        self._above: set[bytes] = set()
        self._add(_marks(root))

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
        self._add(marks)
        return True

    def _add(self, marks: list[bytes]) -> None:
        self._met.add(marks[-1])
        for mark in reversed(marks):
            if mark in self._above:
                break
            self._above.add(mark)


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
