"""Pages that the scan missed: a worker that opens page 0 of a file says how many there are, and the rest joins the job.

The manifest grows at its end; what was added names the index of its file's first page. A crash between a record and
the pages it brings loses nothing: whoever goes on reads the records on disk again, and adds what is not there.

A record comes from Redis, and whoever may write there may write any number into it: the manifest, the file itself and
two bounds (bounds.py) are asked before a line is written.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from detector.images.pdf_tree import more_than_taken
from detector.images.sniff import PAGED_KINDS
from detector.images.suffixes import PAGED_SUFFIXES
from detector.record import UNREADABLE
from producer.archive_process.limited_readers import limited_readers
from producer.bounds import MOST_PAGES_OF_A_FILE, MOST_PAGES_OF_A_JOB
from producer.detector_process.page_counter import can_count
from producer.errors import NO_MORE, CannotCountError
from producer.job.job_epoch import refuse_if_inherited
from producer.job.manifest import (
    Check,
    ManifestIndex,
    ManifestLine,
    count_manifest,
    manifest_lines,
    read_manifest,
    write_lines,
)
from producer.results_there import open_there
from producer.sources.found_page import Problem
from producer.sources.page_count import count_file, kind_of_file
from producer.sources.readers import Readers
from producer.sources.scan_time import ScanTime
from producer.sources.walk import ScanStoppedError
from producer.whole_append import whole_append
from worker.storage.files import path_of

if TYPE_CHECKING:
    from producer.job.results_file import Line
    from worker.ledger.ledger import Ledger

logger = logging.getLogger(__name__)
_ADDED = b',"of":'

COUNTING_S = 8.0
"""In which no other file is begun to be counted before records are taken again: a file has 20 s, a collector's lock 30.
A small PDF is counted in 10 ms, so 800 are; what comes after them is as its record says."""


@dataclass(frozen=True)
class AddedLines:
    """Lines at a place of the manifest; read, one at a time, when they are asked for."""

    manifest: Path
    place: int
    count: int

    def __len__(self) -> int:
        """How many."""
        return self.count

    def __iter__(self) -> Iterator[ManifestLine]:
        """From the first one on."""
        decoder = msgspec.json.Decoder(ManifestLine)
        with open_there(self.manifest) as stream:
            stream.seek(self.place)
            yield from map(decoder.decode, islice(stream, self.count))


class Growth:
    """Compares records with the manifest of their job, and lets it grow.

    Memory: that of a `ManifestIndex`, once the first file of several pages is done.

    Attributes:
        total: pages of the job.
    """

    def __init__(
        self,
        manifest: Path,
        ledger: Ledger,
        job: str,
        total: int,
        check: Check | None = None,
        *,
        heir: str | None = None,
        epoch: str | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            manifest: of the job.
            ledger: of the broker.
            job: its name.
            total: pages of the manifest.
            check: whether there is room for more lines; what it raises ends the growing.
            heir: the folder's (job_epoch.py): another machine may go on with the job, and this one then adds nothing.
                Where it is not "" no file of the list is opened. None: nobody else can have it.
            epoch: which job of that name; None: nobody else writes to this broker.
        """
        self._manifest = manifest
        self._ledger = ledger
        self._job = job
        self.total = total
        self._check = check
        self._heir = heir
        self._epoch = epoch
        self._index: ManifestIndex | None = None
        self._indexed = (0, 0)  # inode and bytes of the manifest then
        self._counted = (-1, 0)
        self._listed: dict[int, int] = {}
        self._noted: list[tuple[int, int]] = []

    def note(self, line: Line) -> None:
        """Look at a record; if its file has more pages than the job, they wait for `write`."""
        if line.page == 0 and line.pages > 1 and not self._is_whole(line.index, line.pages):
            self._noted.append((line.index, line.pages))

    def write(self) -> AddedLines:
        """Add the pages noted: first to the manifest, then to the ledger."""
        place = added = 0
        if self._noted:
            self.refuse_if_inherited()
            with whole_append(self._manifest) as stream:
                # A watched folder may have added to it meanwhile: two lines of one number ended its job for good. Or a
                # retry has written it anew: the pages of a file that it had counted again came in twice.
                if self._indexed != self._as_it_is():
                    self.close()
                self.total, place = count_manifest(self._manifest), stream.tell()
                if self._epoch is not None:
                    self._ledger.cut(self._job, self.total, epoch=self._epoch)
                added = write_lines(stream, self._new(), self._check)
                self._indexed = self._indexed[0], stream.tell()  # what was added here is in `_listed`
            self._noted.clear()
        if added:
            self.total += added
            self._ledger.grow(self._job, self.total)
        return AddedLines(self._manifest, place, added)

    def put_right(self, told: int) -> int:
        """Pages that the manifest has by now; the ledger's number becomes that, unless another machine inherited it.

        Args:
            told: the ledger's number.
        """
        if self.count() != told:
            self.refuse_if_inherited()
            self._ledger.put_right(self._job, self.total)
        return self.total

    def pages(self, wanted: int) -> int:
        """Pages of the job: counted anew where fewer are known here than somebody asks about."""
        return self.count() if wanted > self.total else self.total

    def count(self) -> int:
        """Pages that the manifest has by now, which becomes `total`.

        Another process of this machine may have added to it meanwhile (a watched folder): the file is counted, once
        for each size it has.
        """
        size = self._manifest.stat().st_size
        if self._counted[0] != size:
            self._counted = size, count_manifest(self._manifest)
            self.total = self._counted[1]
        return self.total

    def refuse_if_inherited(self) -> None:
        """See job_epoch.py."""
        if self._heir is not None:
            refuse_if_inherited(self._ledger, self._job, self._heir)

    def lines(self, first: int) -> Iterator[ManifestLine]:
        """The manifest's lines from an index on."""
        return read_manifest(self._manifest, first)

    def added(self, first: int) -> Iterator[ManifestLine]:
        """Those from an index on that were added here, whoever did; of ten million others none is decoded."""
        decoder = msgspec.json.Decoder(ManifestLine)
        with open_there(self._manifest) as stream:
            for number, raw in enumerate(manifest_lines(stream, self._manifest)):
                if number >= first and _ADDED in raw:
                    with suppress(*UNREADABLE):
                        line = decoder.decode(raw)
                        if line.of >= 0 and line.index == number:  # else it is no line of ours
                            yield line

    def _new(self) -> Iterator[ManifestLine]:
        begin = self.total
        with limited_readers(ScanTime(COUNTING_S)) as readers:
            for first, pages in self._noted:
                for line in self._missing(first, pages, begin, readers):
                    if begin >= MOST_PAGES_OF_A_JOB:
                        logger.error("job %s has %d pages: %s", self._job, begin, NO_MORE)
                        return
                    yield line
                    begin += 1

    def close(self) -> None:
        """Close the manifest."""
        if self._index is not None:
            self._index.__exit__()
            self._index = None

    def _as_it_is(self) -> tuple[int, int]:
        there = self._manifest.stat()
        return there.st_ino, there.st_size

    def _opened(self, first: int) -> ManifestIndex:
        """The index, made anew where the list has grown, and only then has a page of that number."""
        if self._index is not None and first >= self._index.count and self._as_it_is() != self._indexed:
            self.close()
        if self._index is None:
            self._indexed = self._as_it_is()
            decoder = msgspec.json.Decoder(ManifestLine)
            with open_there(self._manifest) as stream:
                for raw in manifest_lines(stream, self._manifest):
                    if _ADDED in raw:
                        line = decoder.decode(raw)
                        self._listed[line.of] = max(self._listed.get(line.of, 0), line.page + 1)
            self._index = ManifestIndex(self._manifest)
        return self._index

    def _is_whole(self, first: int, pages: int) -> bool:
        """Whether the last page is where it should be: one look, for the many files that were counted rightly."""
        index = self._opened(first)
        pages = min(pages, MOST_PAGES_OF_A_FILE)
        head, last = index.line(first), index.line(first + pages - 1)
        if head is None or head.page or self._listed.get(first, 0) >= pages:
            return True
        return last is not None and last.uri == head.uri and last.page == pages - 1 and last.problem is None

    def _missing(self, first: int, pages: int, begin: int, readers: Readers) -> Iterator[ManifestLine]:
        index = self._opened(first)
        head = index.line(first)
        if head is None:
            return
        known = 1
        while (line := index.line(first + known)) is not None and _follows(line, head, known):
            known += 1
        refused = line is not None and line.uri == head.uri and line.problem and NO_MORE in line.problem.message
        known = max(known, self._listed.get(first, 0))
        if known >= min(pages, MOST_PAGES_OF_A_FILE) or refused:
            return
        pages = believed(head.uri, pages, readers, opening=not self._heir)
        end = min(pages, MOST_PAGES_OF_A_FILE)
        if known >= end:
            return
        self._listed[first] = end
        for number, page in enumerate(range(known, end)):
            yield ManifestLine(begin + number, head.image, head.uri, page, None, first)
        if pages > end:
            said = f"{head.image}: pages {end + 1}-? are left out: {more_than_taken(pages)}"
            yield ManifestLine(begin + end - known, head.image, head.uri, end, Problem("TooLarge", said), first)


class AddedUnfed:
    """`Growth.added` from the first page on that nobody has fed. The states are asked when a line is wanted.

    Of another type they end what asks them before its loop runs, which alone puts them right.
    """

    def __init__(self, growth: Growth, ledger: Ledger, job: str) -> None:
        """Ask nothing yet."""
        self._growth, self._ledger, self._job = growth, ledger, job
        self._lines: Iterator[ManifestLine] | None = None

    def __iter__(self) -> Iterator[ManifestLine]:
        """Itself; goes on behind an error."""
        return self

    def __next__(self) -> ManifestLine:
        """The next line."""
        if self._lines is None:
            self._lines = self._growth.added(self._ledger.first_to_feed(self._job))
        return next(self._lines)


def _follows(line: ManifestLine, head: ManifestLine, page: int) -> bool:
    return line.uri == head.uri and line.page == page and line.problem is None and line.of < 0


def believed(uri: str, said: int, readers: Readers, *, opening: bool) -> int:
    """How many pages a file has of those that a record, or a machine elsewhere, says.

    No more than are counted in it, where it lies here and can be counted as the workers do: a PDF of three had 100,000.
    What is neither PDF nor TIFF has none; of what cannot be looked at here it is as it was said.

    Args:
        uri: of the file.
        said: how many.
        readers: what counts.
        opening: whether files of the list may be opened here.
    """
    if not _may_have_pages(uri, opening=opening):
        return 0
    if not opening or not uri.startswith("file://"):
        return said
    try:
        path = path_of(uri)
        if kind_of_file(path) == "pdf" and not can_count():
            return said  # pypdf misses some
        counted = count_file(path, readers.count_pdf, readers.time)
    except (OSError, CannotCountError, ScanStoppedError):
        return said
    return said if counted.broken else min(said, counted.pages)


def _may_have_pages(uri: str, *, opening: bool) -> bool:
    """Whether a file is a PDF or TIFF, where that can be seen here: a record may say what it likes of a JPEG."""
    if not opening:
        return uri.lower().endswith(tuple(PAGED_SUFFIXES))
    if not uri.startswith("file://"):
        return True
    try:
        return kind_of_file(path_of(uri)) in PAGED_KINDS
    except OSError:
        return True
