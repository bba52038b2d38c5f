"""What a person names on the command line -> a stream of pages, each with a name to show and a URI to fetch.

Nothing here holds a list of all images: a job of ten million costs the same memory as a job of ten.

Names: one source alone gives names relative to it; several give names relative to the folder they have in common.
A page of a PDF or TIFF shares its file's name and differs in `page`; a member of `a.zip` is `a.zip/member.jpg`.
What cannot be opened or counted still becomes one page, so that a worker records why it failed; what no worker could
say becomes a page with its `Problem`. What is passed over is counted. Nothing is dropped in silence.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePath
from typing import BinaryIO
from urllib.parse import quote

from detector.exit_codes import ExitCode
from detector.images.suffixes import is_taken
from producer.errors import ProducerError
from producer.sources.archive import SCHEMES, BrokenArchiveError, Kind, UnreadArchiveError, archive_kind
from producer.sources.found_page import FoundPage, Problem
from producer.sources.long_names import read_list
from producer.sources.own_pictures import made_by_us, named_as_ours
from producer.sources.page_count import PageCount, Settled, count_file, kind_of_file, settle
from producer.sources.passed_over import LONG_LISTED, OURS, OUTSIDE, UNREADABLE, PassedOver, is_junk, junk_kind
from producer.sources.readers import Readers
from producer.sources.walk import FoundFile, Warn, display, matches, stop_for_want, walk
from worker.storage.spool import is_of_the_machine

STDIN = "-"
Enter = Callable[[Path, int], bool]  # see `walk`


class SourceMissingError(ProducerError):
    """A source named by the user does not exist; the message is one line."""

    exit_code = ExitCode.NOTHING


@dataclass(frozen=True)
class Source:
    """What one name means.

    Attributes:
        path: absolute: a file, a folder, or the literal part of a glob.
        pattern: a glob below `path`, one part per folder level.
    """

    path: Path
    pattern: tuple[str, ...] = ()

    @property
    def home(self) -> Path:
        """The folder that several sources' names are told apart by."""
        return self.path.parent


def scan(
    sources: Iterable[str],
    readers: Readers,
    *,
    stdin: BinaryIO | None = None,
    exclude: Path | None = None,
    warn: Warn = lambda line: None,
    passed: PassedOver | None = None,
    sniff: bool = False,
    zip_encoding: str = "",
    follow_links: bool = False,
) -> Iterator[FoundPage]:
    """Finds every page in files, folders, globs, archives and lists.

    A folder is searched recursively, in sorted order, for known image types and archives; hidden names are passed
    over. A file that is named is always taken, whatever its name. A name that does not exist and holds `*?[` is a
    glob (`**` for any depth). `-` reads a list of paths, one a line or NUL-separated, from `stdin`.

    Args:
        sources: what the user named.
        readers: what opens archives and PDFs.
        stdin: the list for `-`; default: this process's own.
        exclude: the job's output folder, so that its own pictures are not taken for input; see `own_pictures`.
        warn: told in one line about what was skipped or could not be counted.
        passed: counts what is passed over.
        sniff: in folders, also take files of unknown or no suffix that begin like an image or a PDF.
        zip_encoding: of zip members' names that do not say theirs; empty to guess.
        follow_links: take links that lead out of the source they lie in. A stranger's folder may hold one called
            holiday.jpg that leads to a private key.

    Raises:
        SourceMissingError: at once, before the first page, if a named source does not exist.
    """
    named = list(dict.fromkeys(sources))
    resolved = {name: resolve(name) for name in named if name != STDIN}
    common = Path(os.path.commonpath([source.home for source in resolved.values()])) if resolved else Path("/")
    scanner = _Scanner(exclude, warn, passed or PassedOver(), readers, sniff, zip_encoding, follow_links)

    def pages() -> Iterator[FoundPage]:
        for name in named:
            if name == STDIN:
                for line in read_list(stdin or sys.stdin.buffer, too_long=partial(scanner.passed.add, LONG_LISTED)):
                    yield from scanner.listed(line)
                continue
            source = resolved[name]
            alone = len(named) == 1 and bool(source.pattern or os.path.isdir(source.path))  # noqa: PTH112
            prefix = b"" if alone else os.fsencode(source.path.relative_to(common))
            yield from scanner.source(source, prefix)

    return pages()


def found_pages(shown: str, uri: str, settled: Settled) -> Iterator[FoundPage]:
    """The pages of a file, and one that fails in place of those that are not taken."""
    for page in range(settled.pages):
        yield FoundPage(shown, uri, page, uncounted=settled.uncounted)
    if settled.problem:
        yield FoundPage(shown, uri, settled.pages, Problem(*settled.problem))


def scan_file(
    path: Path, name: bytes, readers: Readers, warn: Warn = lambda line: None, *, zip_encoding: str = ""
) -> Iterator[FoundPage]:
    """The pages of one file as a scan of its folder finds them; none if it is no image and no archive.

    Args:
        path: absolute.
        name: as people are to see it.
        readers: as for `scan`.
        warn: told in one line about what was skipped or could not be counted.
        zip_encoding: as for `scan`.
    """
    return _Scanner(None, warn, PassedOver(), readers, False, zip_encoding, False).file(path, name, named=False)


def file_uri(path: Path, scheme: str = "file", member: bytes | None = None, number: int | None = None) -> str:
    """The URI of an absolute path, or of a member of the archive there; every byte survives the round trip.

    Args:
        path: of the file.
        scheme: how it is opened.
        member: its name in there.
        number: which of the archive's entries it is, from 0.
    """
    query = "" if number is None else f"?member={number}"
    fragment = "" if member is None else "#" + quote(member)
    return f"{scheme}://{quote(os.fsencode(path))}{query}{fragment}"


def _absolute(name: str) -> Path:
    return Path(os.path.abspath(name))  # noqa: PTH100  # Path.absolute keeps `..`; resolve would follow links


def resolve(name: str) -> Source:
    """What a name means.

    Raises:
        SourceMissingError: nothing.
    """
    path = _absolute(name)
    if os.path.lexists(path):
        return Source(path)
    literal = next((i for i, part in enumerate(path.parts) if re.search(r"[*?[]", part)), None)
    if literal is None:
        raise SourceMissingError(f"{display(path)}: no such file or folder; check the path")
    base = Path(*path.parts[:literal])
    if not base.is_dir():
        raise SourceMissingError(f"{display(path)}: no folder {display(base)} to search; check the path")
    return Source(base, path.parts[literal:])


@dataclass(frozen=True)
class _Scanner:
    """The settings of one scan, and how each kind of thing it meets becomes pages."""

    exclude: Path | None
    warn: Warn
    passed: PassedOver
    readers: Readers
    sniff: bool
    zip_encoding: str
    follow_links: bool

    def source(self, source: Source, prefix: bytes) -> Iterator[FoundPage]:
        if source.pattern:
            yield from self.glob(source, prefix)
        elif os.path.isdir(source.path):  # noqa: PTH112  # as in `listed`
            yield from self.folder(source.path, prefix)
        else:
            yield from self.file(source.path, prefix, named=True)

    def listed(self, line: bytes) -> Iterator[FoundPage]:
        if line[1:].endswith(b"\r") and not os.path.lexists(line):  # a list that Windows wrote
            line = line[:-1]
        path = _absolute(os.fsdecode(line))
        name = line.removeprefix(b"./")
        if os.path.isdir(path):  # noqa: PTH112  # Path.is_dir raises for a name that no file system has
            yield from self.folder(path, name.rstrip(b"/"))
        else:  # also one that does not exist: a list of millions goes on, and a worker records what was not found
            yield from self.file(path, name, named=True)

    def folder(self, folder: Path, prefix: bytes) -> Iterator[FoundPage]:
        for found in self._walk(folder, self._gate(folder)):
            yield from self.file(found.path, _join(prefix, found.name), named=False)

    def glob(self, source: Source, prefix: bytes) -> Iterator[FoundPage]:
        # `*.scan` names a file type and is obeyed; `scans/*` may match anything and keeps to image types.
        named = re.search(r"\.\w+$", source.pattern[-1]) is not None
        for found in _glob_walk(source, self._gate(source.path), self._walk):
            yield from self.file(found.path, _join(prefix, found.name), named=named)

    def _walk(self, root: Path, enter: Enter) -> Iterator[FoundFile]:
        look = self.readers.time.check_turn
        return walk(root, enter=enter, warn=self._unreadable, outside=self._outside, look=look)

    def file(self, path: Path, name: bytes, *, named: bool) -> Iterator[FoundPage]:
        kind = archive_kind(path.name)
        if not named and not self._wanted(path, kind):
            return
        if kind and not self._kind(path):  # photos.zip may be one photo
            yield from self.archive(path, name, kind)
        else:
            count = partial(count_file, path, self.readers.count_pdf, self.readers.time)
            yield from self.pages(display(name), file_uri(path), count)

    def _kind(self, path: Path, unread: str = "") -> str:
        try:
            return kind_of_file(path, self.readers.time.leases)
        except (OSError, ValueError) as error:
            stop_for_want(path, error)
            return unread if isinstance(error, OSError) and is_of_the_machine(error) else ""

    def _wanted(self, path: Path, kind: Kind | None) -> bool:
        """Whether a file met in a folder may hold pages; counts those that do not."""
        if is_junk(path.name):
            self.passed.add(junk_kind(path.name))
            return False
        if kind or is_taken(path) or (self.sniff and self._kind(path, unread="perhaps a picture")):
            return True
        self.passed.file(PurePath(path.name))
        return False

    def archive(self, path: Path, name: bytes, kind: Kind) -> Iterator[FoundPage]:
        if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113  # a pipe would block us for ever; a worker says what it is
            yield FoundPage(display(name), file_uri(path), 0)
            return
        found = self.readers.list_members(
            path, kind, passed=self.passed, count_pdf=self.readers.count_pdf, zip_encoding=self.zip_encoding
        )
        try:
            for member in found:
                shown = display(_join(name, _harmless(member.shown)))
                uri = file_uri(path, SCHEMES[kind], member.name, member.number)
                stored = os.fsdecode(member.shown)
                if archive_kind(stored):
                    said = "an archive inside an archive is not opened; unpack it first"
                    self.warn(f"{shown}: skipped, {said}")
                    yield FoundPage(shown, uri, 0, Problem("UnsupportedFormat", f"{shown}: {said}"))
                elif is_taken(PurePath(stored)):
                    yield from self.pages(shown, uri, member.look)
                else:
                    self.passed.file(PurePath(stored))
        except UnreadArchiveError as error:  # not for good: it is no damage
            remedy = "`ocr-producer retry` lists it anew, and so does a job of its own"
            said = f"the archive could not be read to its end ({error}); {remedy}"
            self.warn(f"{display(name)}: {said}")
            yield FoundPage(display(name), file_uri(path), 0, Problem("NotFound", f"{display(name)}: {said}"))
        except BrokenArchiveError as error:
            said = f"the archive cannot be read to its end ({error})"
            self.warn(f"{display(name)}: {said}")
            yield FoundPage(display(name), file_uri(path), 0, Problem("CorruptImage", f"{display(name)}: {said}"))

    def pages(self, shown: str, uri: str, count: Callable[[], PageCount]) -> Iterator[FoundPage]:
        yield from found_pages(shown, uri, settle(shown, count, self.warn))

    def _unreadable(self, line: str) -> None:
        self.passed.add(UNREADABLE)
        self.warn(line)

    def _outside(self, link: Path) -> bool:
        """Whether to take a link that leads out of its source; counts those that are not taken."""
        if not self.follow_links:
            self.passed.add(OUTSIDE)
        return self.follow_links

    def _gate(self, root: Path) -> Enter:
        """Which folders below `root` to enter: none that systems or we made."""
        is_ours = made_by_us(root, self.exclude)

        def enter(folder: Path, depth: int) -> bool:
            if is_junk(folder.name):
                self.passed.add(junk_kind(folder.name))
                return False
            if not is_ours(folder):
                return True
            if named_as_ours(folder):
                self.passed.add(OURS)
            return False

        return enter


def _glob_walk(
    source: Source, gate: Enter, walk_from: Callable[[Path, Enter], Iterator[FoundFile]]
) -> Iterator[FoundFile]:
    """The files a glob matches, and all files in the folders it matches, as `walk` gives them."""
    deep = "**" in source.pattern

    def enter(folder: Path, depth: int) -> bool:
        parts = folder.parts[len(source.path.parts) :]
        # Below the last part of the pattern we are inside a matched folder; above it every level must match.
        fits = deep or all(map(fnmatchcase, parts, source.pattern[:depth]))
        return fits and gate(folder, depth)

    for found in walk_from(source.path, enter):
        if matches(os.fsdecode(found.name).split("/"), source.pattern):
            yield found


def _join(prefix: bytes, name: bytes) -> bytes:
    return prefix + b"/" + name if prefix and name else prefix or name


def _harmless(member: bytes) -> bytes:
    """A member's name for showing, without the parts that would lead out of the archive's folder."""
    return b"/".join(part for part in member.replace(b"\\", b"/").split(b"/") if part not in (b"", b".", b".."))
