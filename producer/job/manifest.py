"""A job's list of pages on disk: written once, complete or absent, and what `resume` reads.

One JSON object a line; the line's number, from 0, is the page's index in the job. While the scan runs the file has a
hidden name that ends in `.part`; it gets its own only when every page is in it and on disk, so a manifest that exists
is a complete one.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec

from detector.atomic import atomic_write
from detector.record import UNREADABLE
from producer.archive_process.limited_readers import limited_readers
from producer.bounds import MOST_LINE_BYTES, MOST_PAGES_OF_A_JOB
from producer.errors import NothingToDoError, ProducerError
from producer.held_folder import ours_to_write
from producer.job.output_folder import JobRequest, OutputFolder
from producer.job.results_file import truncate_torn_line
from producer.job.view import View
from producer.results_there import open_there
from producer.sources.found_page import FoundPage, Problem
from producer.sources.passed_over import PassedOver, in_words
from producer.sources.remote import scan_everything
from producer.whole_append import rewriting

FLUSH_EVERY = 1000  # lines between two reports of progress
CHECK_EVERY = 1 << 20  # bytes
PASSED_AT_ONCE = 256 << 10  # bytes
MOST_READ = 512 << 10  # of a line, bytes: versions before wrote up to 330 KB

Check = Callable[[int], None]
"""Told every `CHECK_EVERY` bytes how many were written so far; what it raises ends the writing."""


class ManifestLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One page of a job.

    Attributes:
        index: the page's number in the job, from 0.
        image: the name people see.
        uri: where a worker gets its bytes.
        page: 0-based page inside a PDF or TIFF.
        problem: why it fails, if that was known when it was found; no worker is asked.
        of: index of the file's first page, of a page that its worker found later (growth.py); else -1.
        uncounted: as its `FoundPage` says.
    """

    index: int
    image: str
    uri: str
    page: int
    problem: Problem | None = None
    of: int = -1
    uncounted: bool = False


class ManifestError(ProducerError):
    """The manifest cannot be read; the message names file and line."""


class LineTooLongError(ProducerError):
    """A page's name and address do not fit a line; the message names the page."""


class TooManyPagesError(ProducerError):
    """More than a job may have; the message names the bound."""


def write_lines(stream: BinaryIO, lines: Iterable[ManifestLine], check: Check | None = None) -> int:
    """Writes lines as they are made, so that none but one is held. Returns how many.

    Raises:
        LineTooLongError: who makes pages leaves out those with such names (sources/long_names.py).
        TooManyPagesError: there are more than a job may have.
    """
    encoder = msgspec.json.Encoder()
    count = size = checked = 0
    for line in lines:
        if line.index >= MOST_PAGES_OF_A_JOB:
            raise TooManyPagesError(f"more than {MOST_PAGES_OF_A_JOB:,} pages; make several jobs of them")
        data = encoder.encode(line) + b"\n"
        if len(data) > MOST_LINE_BYTES:
            raise LineTooLongError(f"{line.image[:100]}…: its path is too long; shorten it")
        size += stream.write(data)
        count += 1
        if check and size - checked >= CHECK_EVERY:
            checked = size
            check(size)
    return count


def write_manifest(
    pages: Iterable[FoundPage],
    path: Path,
    progress: Callable[[int], None] | None = None,
    check: Check | None = None,
) -> int:
    """Writes the manifest as pages come; the file appears under its name only when complete.

    Args:
        pages: what the scan found, in the order that becomes the index.
        path: the manifest; its folder is made if need be.
        progress: told now and then how many pages were found so far, and once at the end.
        check: whether there is room for more; if it raises, there is no manifest.

    Returns:
        The number of pages.

    Raises:
        TooManyPagesError: there are more than a job may have.
    """

    def lines() -> Iterator[ManifestLine]:
        for index, found in enumerate(pages):
            yield ManifestLine(index, found.image, found.uri, found.page, found.problem, uncounted=found.uncounted)
            if progress and (index + 1) % FLUSH_EVERY == 0:
                progress(index + 1)

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, sync=True) as part, open(part, "wb", opener=ours_to_write) as stream:
        total = write_lines(stream, lines(), check)
    if progress:
        progress(total)
    return total


def read_manifest(path: Path, start: int = 0) -> Iterator[ManifestLine]:
    """The manifest's lines from index `start` on, one at a time.

    Raises:
        FileNotFoundError: the scan never finished.
        ManifestError: a line is damaged.
    """
    decoder = msgspec.json.Decoder(ManifestLine)
    with open_there(path) as stream:
        _pass_lines(stream, start)
        for number, line in enumerate(manifest_lines(stream, path), start):
            try:
                entry = decoder.decode(line)
            except UNREADABLE as error:
                raise ManifestError(f"{path}:{number + 1}: not a manifest line ({error}); scan again") from error
            if entry.index != number:
                raise ManifestError(f"{path}:{number + 1}: holds index {entry.index}, not {number}; scan again")
            yield entry


def manifest_lines(stream: BinaryIO, path: Path) -> Iterator[bytes]:
    """The file's lines from where it stands, none of which is longer than `MOST_READ`."""
    while line := stream.readline(MOST_READ):
        if len(line) == MOST_READ and not line.endswith(b"\n"):
            raise ManifestError(f"{path}: has a line of more than {MOST_READ >> 10} KiB; scan again")
        yield line


def _pass_lines(stream: BinaryIO, count: int) -> None:
    """Go on behind so many lines, or the last. Ten million take as long as their bytes: a line each was 5 s."""
    while count and (block := stream.read(PASSED_AT_ONCE)):
        lines = block.count(b"\n")
        if lines < count:
            count -= lines
            continue
        place = -1
        for _ in range(count):
            place = block.index(b"\n", place + 1)
        stream.seek(place + 1 - len(block), os.SEEK_CUR)
        return


def count_manifest(path: Path) -> int:
    """How many pages the manifest lists."""
    with open_there(path) as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))


class AddedPages:
    """Which pages of a manifest belong to a file that is further up: their worker found them later (growth.py).

    A file's pages lie on one of `SHELVES` shelves, so that neither putting one in nor looking for a file's costs by how
    many there are in all (a million of each: 3 s). Memory: 12 bytes each, and 80 KB. A shelf is sorted when it is
    first looked at: to put each page in its place was, of a stranger's list that counts down, hours for 540 MB.
    """

    SHELVES = 1021  # prime: files often have as many pages each as others

    def __init__(self) -> None:
        """None yet."""
        self._pages = array("I")
        self._shelves = [array("Q") for _ in range(self.SHELVES)]  # a file's first page is the upper half
        self._unsorted = set[int]()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._pages)

    def put(self, line: ManifestLine) -> None:
        """Takes a line, if it is one of these; lines come in their order."""
        if 0 <= line.of < line.index < MOST_PAGES_OF_A_JOB:
            self._pages.append(line.index)
            number, entry = line.of % self.SHELVES, line.of << 32 | line.index
            if self._shelves[number] and entry < self._shelves[number][-1]:
                self._unsorted.add(number)
            self._shelves[number].append(entry)

    def __contains__(self, index: int) -> bool:
        """Whether a page is one of these."""
        place = bisect_left(self._pages, index)
        return place < len(self._pages) and self._pages[place] == index

    def to(self, first: int) -> Iterator[int]:
        """The pages that belong to the file whose first page this is."""
        number = first % self.SHELVES
        if number in self._unsorted:
            self._shelves[number] = array("Q", sorted(self._shelves[number]))
            self._unsorted.remove(number)
        shelf = self._shelves[number]
        for place in range(bisect_left(shelf, first << 32), len(shelf)):
            if shelf[place] >> 32 != first:
                return
            yield shelf[place] & 0xFFFFFFFF


class ManifestIndex:
    """Looks up single lines of a manifest of any length. A context manager.

    Memory: the place of every 256th line, 8 bytes each (0.3 MB for ten million pages), and of each line of a few
    blocks; no line is kept. Eight blocks of such lines as a stranger's zip can make were 680 MB.

    Attributes:
        count: lines.
        added: pages that belong to files further up.
    """

    BLOCK = 256
    KEPT = 8  # results come nearly in order: what was looked up last is close to what comes next

    def __init__(self, path: Path) -> None:
        """Read the file once, to know where its lines are."""
        self._path = path
        self._places = array("Q")
        self._blocks: OrderedDict[int, array[int]] = OrderedDict()
        self._stream = open_there(path)
        self.count = 0
        self.added = AddedPages()
        place = 0
        for line in manifest_lines(self._stream, path):
            if b'"of":' in line:  # or in a name
                with suppress(*UNREADABLE):
                    entry = msgspec.json.decode(line, type=ManifestLine)
                    if entry.index == self.count:  # else it is no line of ours, see `read_manifest`
                        self.added.put(entry)
            if self.count % self.BLOCK == 0:
                self._places.append(place)
            place += len(line)
            self.count += 1

    def __enter__(self) -> ManifestIndex:
        """The file stays open until the end of the block."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self._stream.close()

    @property
    def status(self) -> os.stat_result:
        """Of the file that is open."""
        return os.fstat(self._stream.fileno())

    def line(self, index: int) -> ManifestLine | None:
        """The line of an index, None if the manifest does not reach so far.

        Raises:
            ManifestError: the line is damaged.
        """
        if not 0 <= index < self.count:
            return None
        number, offset = divmod(index, self.BLOCK)
        block = self._blocks.pop(number, None)
        if block is None:
            block = self._places_in(number)
        self._blocks[number] = block
        while len(self._blocks) > self.KEPT:
            self._blocks.popitem(last=False)
        self._stream.seek(block[offset])
        try:
            return msgspec.json.decode(self._stream.readline(MOST_READ), type=ManifestLine)
        except UNREADABLE as error:
            raise ManifestError(f"{self._path}:{index + 1}: not a manifest line ({error}); scan again") from error

    def _places_in(self, number: int) -> array[int]:
        """Where the lines of a block begin."""
        places, place = array("Q"), self._places[number]
        self._stream.seek(place)
        for line in islice(manifest_lines(self._stream, self._path), self.BLOCK):
            places.append(place)
            place += len(line)
        return places

    def is_paged(self, index: int, image: str, page: int) -> bool:
        """Whether the file of this page has more pages; for a PDF always true, so that its pages sort together."""
        if page > 0 or image.lower().endswith(".pdf"):
            return True
        if any(True for _ in self.added.to(index)):
            return True
        following = self.line(index + 1)
        return following is not None and following.image == image and following.page == page + 1


def make_manifest(folder: OutputFolder, request: JobRequest, view: View) -> int:
    """Scan the sources unless that was done before. Returns the number of pages.

    Raises:
        NothingToDoError: no page found.
        SourceMissingError: a named source does not exist.
    """
    if folder.manifest.exists():
        with rewriting(folder.manifest):  # a collector may be appending
            truncate_torn_line(folder.manifest)  # a page added later (growth.py), half written
        return count_manifest(folder.manifest)
    passed = PassedOver()
    with limited_readers() as readers:
        pages = scan_everything(
            request.sources,
            readers,
            exclude=folder.root,
            warn=view.warn,
            passed=passed,
            sniff=request.sniff,
            zip_encoding=request.zip_encoding,
            follow_links=request.follow_links,
        )
        total = write_manifest(pages, folder.manifest, progress=lambda count: view.update(0, 0, 0.0, f"found {count}"))
    folder.save_passed_over(passed.counts)
    if said := in_words(passed.counts):
        view.note(said)
    if total == 0:
        folder.manifest.unlink()
        raise NothingToDoError(f"no images in {', '.join(request.sources)}" + (f" ({said})" if said else ""))
    return total
