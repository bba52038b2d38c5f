"""What a person names on the command line -> a stream of pages, each with a name to show and a URI to fetch.

Nothing here holds a list of all images: a job of ten million costs the same memory as a job of ten.

Names: one source alone gives names relative to it; several give names relative to the folder they have in common.
A page of a PDF or TIFF shares its file's name and differs in `page`; a member of `a.zip` is `a.zip/member.jpg`.
What cannot be opened or counted still becomes one page, so that a worker records why it failed: nothing is dropped
in silence.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import msgspec

from detector.exit_codes import ExitCode
from detector.images.suffixes import IMAGE_SUFFIXES, PAGED_SUFFIXES
from producer.errors import ProducerError
from producer.sources.archive import BrokenArchiveError, Kind, archive_kind, members
from producer.sources.page_count import CannotCountError, count_pages, paged_suffix_of
from producer.sources.walk import FoundFile, Warn, display, walk

STDIN = "-"


class FoundPage(msgspec.Struct, frozen=True):
    """One page to look at.

    Attributes:
        image: the name people see; valid Unicode, bytes that are not UTF-8 shown as backslash escapes.
        uri: `file:///…`, `zip+file:///a.zip#member` or `tar+file:///a.tar.gz#member`, percent-encoded bytes.
        page: 0-based.
    """

    image: str
    uri: str
    page: int


class SourceMissingError(ProducerError):
    """A source named by the user does not exist; the message is one line."""

    exit_code = ExitCode.NOTHING


@dataclass(frozen=True)
class _Source:
    path: Path  # absolute: a file, a folder, or the literal part of a glob
    pattern: tuple[str, ...] = ()  # a glob below `path`, one part per folder level

    @property
    def home(self) -> Path:
        """The folder that several sources' names are told apart by."""
        return self.path.parent


def scan(
    sources: Iterable[str],
    *,
    stdin: BinaryIO | None = None,
    exclude: Path | None = None,
    warn: Warn = lambda line: None,
) -> Iterator[FoundPage]:
    """Finds every page in files, folders, globs, archives and lists.

    A folder is searched recursively, in sorted order, for known image types and archives; hidden names are passed
    over. A file that is named is always taken, whatever its name. A name that does not exist and holds `*?[` is a
    glob (`**` for any depth). `-` reads a list of paths, one a line or NUL-separated, from `stdin`.

    Args:
        sources: what the user named.
        stdin: the list for `-`; default: this process's own.
        exclude: the job's output folder, so that its own pictures are not taken for input.
        warn: told in one line about what was skipped or could not be counted.

    Raises:
        SourceMissingError: at once, before the first page, if a named source does not exist.
    """
    named = list(dict.fromkeys(sources))
    resolved = {name: _resolve(name) for name in named if name != STDIN}
    common = Path(os.path.commonpath([source.home for source in resolved.values()])) if resolved else Path("/")
    scanner = _Scanner(Path(os.path.realpath(exclude)) if exclude else None, warn)

    def pages() -> Iterator[FoundPage]:
        for name in named:
            if name == STDIN:
                for line in read_list(stdin or sys.stdin.buffer):
                    yield from scanner.listed(line)
                continue
            source = resolved[name]
            alone = len(named) == 1 and not source.path.is_file()
            prefix = b"" if alone else os.fsencode(source.path.relative_to(common))
            yield from scanner.source(source, prefix)

    return pages()


def scan_file(path: Path, name: bytes, warn: Warn = lambda line: None) -> Iterator[FoundPage]:
    """The pages of one file as a scan of its folder finds them; none if it is no image and no archive.

    Args:
        path: absolute.
        name: as people are to see it.
        warn: told in one line about what was skipped or could not be counted.
    """
    return _Scanner(None, warn).file(path, name, named=False)


def read_list(stream: BinaryIO, block: int = 1 << 16) -> Iterator[bytes]:
    """The entries of a list of paths; NUL-separated if its first block holds a NUL, else one a line."""
    data = stream.read(block)
    separator = b"\0" if b"\0" in data else b"\n"
    rest = b""
    while data:
        *whole, rest = (rest + data).split(separator)
        yield from filter(None, whole)
        data = stream.read(block)
    if rest:
        yield rest


def file_uri(path: Path, scheme: str = "file", member: bytes | None = None) -> str:
    """The URI of an absolute path, or of a member of the archive there; every byte survives the round trip."""
    fragment = "" if member is None else "#" + quote(member)
    return f"{scheme}://{quote(os.fsencode(path))}{fragment}"


def _absolute(name: str) -> Path:
    return Path(os.path.abspath(name))  # noqa: PTH100  # Path.absolute keeps `..`; resolve would follow links


def _resolve(name: str) -> _Source:
    path = _absolute(name)
    if os.path.lexists(path):
        return _Source(path)
    literal = next((i for i, part in enumerate(path.parts) if re.search(r"[*?[]", part)), None)
    if literal is None:
        raise SourceMissingError(f"{display(path)}: no such file or folder; check the path")
    base = Path(*path.parts[:literal])
    if not base.is_dir():
        raise SourceMissingError(f"{display(path)}: no folder {display(base)} to search; check the path")
    return _Source(base, path.parts[literal:])


@dataclass(frozen=True)
class _Scanner:
    """The settings of one scan, and how each kind of thing it meets becomes pages."""

    exclude: Path | None
    warn: Warn

    def source(self, source: _Source, prefix: bytes) -> Iterator[FoundPage]:
        if source.pattern:
            yield from self.glob(source, prefix)
        elif source.path.is_dir():
            yield from self.folder(source.path, prefix)
        else:
            yield from self.file(source.path, prefix, named=True)

    def listed(self, line: bytes) -> Iterator[FoundPage]:
        path = _absolute(os.fsdecode(line))
        name = line.removeprefix(b"./")
        if path.is_dir():
            yield from self.folder(path, name.rstrip(b"/"))
        else:  # also one that does not exist: a list of millions goes on, and a worker records what was not found
            yield from self.file(path, name, named=True)

    def folder(self, folder: Path, prefix: bytes) -> Iterator[FoundPage]:
        for found in walk(folder, enter=self._gate(folder), warn=self.warn):
            yield from self.file(found.path, _join(prefix, found.name), named=False)

    def glob(self, source: _Source, prefix: bytes) -> Iterator[FoundPage]:
        # `*.scan` names a file type and is obeyed; `scans/*` may match anything and keeps to image types.
        named = re.search(r"\.\w+$", source.pattern[-1]) is not None
        for found in _glob_walk(source, self._gate(source.path), self.warn):
            yield from self.file(found.path, _join(prefix, found.name), named=named)

    def file(self, path: Path, name: bytes, *, named: bool) -> Iterator[FoundPage]:
        kind = archive_kind(path.name)
        suffix = path.suffix.lower()
        if kind:
            yield from self.archive(path, name, kind)
        elif named or suffix in IMAGE_SUFFIXES:
            paged = suffix if suffix in PAGED_SUFFIXES else ""
            if named and suffix not in IMAGE_SUFFIXES:
                paged = paged_suffix_of(path)  # a PDF without its ending, say
            counted = partial(_count_file, path, paged) if paged else None
            yield from self.pages(display(name), file_uri(path), counted)

    def archive(self, path: Path, name: bytes, kind: Kind) -> Iterator[FoundPage]:
        try:
            for member in members(path, kind):
                shown = display(_join(name, _harmless(member.name)))
                suffix = Path(os.fsdecode(member.name)).suffix.lower()
                if archive_kind(os.fsdecode(member.name)):
                    self.warn(f"{shown}: skipped, an archive inside an archive is not opened; unpack it first")
                elif suffix in IMAGE_SUFFIXES:
                    counted = partial(member.count_pages, suffix) if suffix in PAGED_SUFFIXES else None
                    yield from self.pages(shown, file_uri(path, f"{kind}+file", member.name), counted)
        except BrokenArchiveError as error:
            self.warn(f"{display(name)}: the archive cannot be read to its end ({error})")
            yield FoundPage(display(name), file_uri(path), 0)

    def pages(self, shown: str, uri: str, count: Callable[[], int] | None) -> Iterator[FoundPage]:
        total = 1
        if count:
            try:
                total = count()
            except CannotCountError as error:
                self.warn(f"{shown}: its pages cannot be counted, only the first is taken ({error})")
        for page in range(total):
            yield FoundPage(shown, uri, page)

    def _gate(self, root: Path) -> Callable[[Path, int], bool]:
        """Which folders below `root` to enter: not the job's own output."""
        closed = self.exclude
        if closed and closed == Path(os.path.realpath(root)):
            closed = closed / "overlays"  # photos and results share one folder: leave out the pictures we drew
        return lambda folder, depth: closed is None or Path(os.path.realpath(folder)) != closed


def _count_file(path: Path, suffix: str) -> int:
    try:
        with path.open("rb") as stream:
            return count_pages(stream, suffix)
    except OSError as error:
        raise CannotCountError(error.strerror or str(error)) from error


def _glob_walk(source: _Source, gate: Callable[[Path, int], bool], warn: Warn) -> Iterator[FoundFile]:
    """The files a glob matches, and all files in the folders it matches, as `walk` gives them."""
    deep = "**" in source.pattern

    def enter(folder: Path, depth: int) -> bool:
        parts = folder.parts[len(source.path.parts) :]
        # Below the last part of the pattern we are inside a matched folder; above it every level must match.
        fits = deep or all(map(fnmatchcase, parts, source.pattern[:depth]))
        return fits and gate(folder, depth)

    for found in walk(source.path, enter=enter, warn=warn):
        parts = os.fsdecode(found.name).split("/")
        if any(_matches(tuple(parts[:n]), source.pattern) for n in range(1, len(parts) + 1)):
            yield found


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _join(prefix: bytes, name: bytes) -> bytes:
    return prefix + b"/" + name if prefix and name else prefix or name


def _harmless(member: bytes) -> bytes:
    """A member's name for showing, without the parts that would lead out of the archive's folder."""
    return b"/".join(part for part in member.replace(b"\\", b"/").split(b"/") if part not in (b"", b".", b".."))
