"""OUT/results.jsonl: one record a line, the last one of a page counts."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from detector.atomic import atomic_write, named
from detector.errors import first_line
from detector.record import UNREADABLE, Amount
from producer.bounds import MOST_PAGES_OF_A_JOB
from producer.errors import ProducerError
from producer.held_folder import ours_to_write
from producer.no_links import no_links
from producer.results_there import open_there
from worker.messages import BoxRecord, ErrorRecord, ImageRecord, Seconds


class Line(msgspec.Struct, frozen=True):
    """What progress and summary need of a record; the record itself is written to disk byte by byte."""

    index: int
    image: str
    page: int
    status: Literal["ok", "failed"]
    seconds: Seconds = Seconds()  # exports take a record without it, too
    job: str = ""
    peak_rss_mb: Amount = 0.0
    error: ErrorRecord | None = None
    pages: int = 0


class _Whole(ImageRecord, frozen=True, kw_only=True):
    """A record whose boxes are looked at one by one: of 4 MiB they are 30 MB at once."""

    boxes: list[msgspec.Raw] = msgspec.field(default_factory=list)  # type: ignore[assignment]


class CannotSendResultsError(ProducerError):
    """The bucket does not take the results. The message says where they are."""


TICK_LINES = 100_000
"""Between two calls of what a long rewriting is told to call: under a second."""

MOST_LINE_BYTES = 16 << 20
"""Of a line. A record has 4 MiB; versions before bounded it by memory alone. Results may be a stranger's."""

_PIECE_BYTES = 64 << 10
"""Read of a line at once: behind a block of the disk in a file that is otherwise holes, so much of the hole is read."""

_NO_RECORD = b"\0"

_MOST_COUNTED = 255  # lines of a page that a byte counts

decode_line = msgspec.json.Decoder(Line).decode
_decode_record = msgspec.json.Decoder(ImageRecord).decode
_decode_whole = msgspec.json.Decoder(_Whole).decode
_decode_box = msgspec.json.Decoder(BoxRecord).decode


def decode_whole(record: bytes) -> Line:
    """What a record says that every export can read, too.

    Raises:
        msgspec.MsgspecError: it is none; see also `UNREADABLE`.
    """
    for box in _decode_whole(record).boxes:
        _decode_box(box)
    return decode_line(record)


class PageMarks:
    """A number from 1 to 255 for some pages of a job; iterates over these pages, the first one first.

    Memory: one byte a page, up to the last that has one. A list of all pages was 40 bytes each, a dict 100.
    """

    def __init__(self) -> None:
        """No page has a mark."""
        self._marks = bytearray()

    def __getitem__(self, index: int) -> int:
        """A page's mark, 0 if it has none."""
        return self._marks[index] if 0 <= index < len(self._marks) else 0

    def __setitem__(self, index: int, mark: int) -> None:
        """Mark a page. An index that no job has is passed over: a stranger's file may say any."""
        if 0 <= index < MOST_PAGES_OF_A_JOB:
            if index >= len(self._marks):
                self._marks.extend(bytes(index + 1 - len(self._marks)))
            self._marks[index] = mark

    def __len__(self) -> int:
        """How many pages have a mark."""
        return len(self._marks) - self._marks.count(0)

    def __iter__(self) -> Iterator[int]:
        """The pages that have a mark."""
        return (index for index, mark in enumerate(self._marks) if mark)

    def count(self, mark: int) -> int:
        """How many pages have this mark."""
        return self._marks.count(mark)

    def pages(self, mark: int) -> Iterator[int]:
        """The pages that have this mark."""
        return (index for index, found in enumerate(self._marks) if found == mark)


def placed_lines(stream: BinaryIO, place: int = 0) -> Iterator[tuple[int, bytes]]:
    """The lines of a results file from a place on, each with its place; the last one may lack its newline.

    Instead of a line that is longer than any record there is one that is none, and so there is for a long one with a
    hole. Holes are passed over: ``truncate -s 16T`` was 28 hours.
    """
    stream.seek(place)
    while line := stream.readline(_PIECE_BYTES):
        end = place + len(line)
        if len(line) == _PIECE_BYTES and not line.endswith(b"\n"):
            line, end = _long_line(stream, place, line)
        yield place, line
        place = end


def _long_line(stream: BinaryIO, place: int, piece: bytes) -> tuple[bytes, int]:
    """The line that begins with a piece, and where it ends."""
    pieces, end, is_record = [piece], place + len(piece), True
    while piece and not piece.endswith(b"\n"):
        if piece.endswith(_NO_RECORD):  # which no JSON has
            is_record, end = False, max(end, _data_from(stream, end))
            stream.seek(end)
        piece = stream.readline(_PIECE_BYTES)
        end += len(piece)
        is_record = is_record and end - place <= MOST_LINE_BYTES
        if is_record:
            pieces.append(piece)
        else:
            pieces.clear()
    if is_record:
        return b"".join(pieces), end
    return _NO_RECORD + (b"\n" if piece or end - place > MOST_LINE_BYTES else b""), end


def _data_from(stream: BinaryIO, place: int) -> int:
    """Where the disk holds data next, from a place on; its size if there is none. The stream stays where it is."""
    file = stream.fileno()
    before = os.lseek(file, 0, os.SEEK_CUR)
    try:
        return os.lseek(file, place, os.SEEK_DATA)
    except OSError as error:  # a file system that knows no holes
        return max(place, os.fstat(file).st_size) if error.errno == errno.ENXIO else place
    finally:
        os.lseek(file, before, os.SEEK_SET)


def keep_last_records(results: Path, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Rewrite the file with the last record of each page: a retried page's old failure goes.

    Lines are counted, then written where none of their page follows: one byte a page, and one entry for each 255th line
    of a page. Ten million pages took 930 MB when the last line of each was remembered.

    Args:
        results: the file. A record of a page that no job has stays.
        meanwhile: called every `TICK_LINES` lines; what it raises leaves the file as it was.
    """
    left, more = PageMarks(), Counter[int]()
    for number, (_, line) in enumerate(read_lines(results), 1):
        if number % TICK_LINES == 0:
            meanwhile()
        if line is None:
            continue
        if left[line.index] < _MOST_COUNTED:
            left[line.index] += 1
        else:
            more[line.index] += 1

    def is_last(number: int, line: Line) -> bool:
        if number % TICK_LINES == 0:
            meanwhile()
        if more[line.index]:
            more[line.index] -= 1
            return False
        left[line.index] = max(0, left[line.index] - 1)
        return not left[line.index]

    rewrite(results, is_last)


def drop_failed(results: Path) -> PageMarks:
    """Remove failed records from the file (they are to be tried again). Returns their pages."""
    dropped = PageMarks()

    def keep(number: int, line: Line) -> bool:
        if line.status == "failed":
            dropped[line.index] = 1
        return line.status != "failed"

    rewrite(results, keep)
    return dropped


def read_lines(results: Path) -> Iterator[tuple[bytes, Line | None]]:
    """Each line of the file as it is, and what it says; None for one that is damaged (its page is simply run again)."""
    with named(results), open_there(results) as source:
        for _, raw in placed_lines(source):
            try:
                yield raw, decode_line(raw)
            except UNREADABLE:
                yield raw, None


def failed_lines(results: Path) -> Iterator[tuple[Line, ErrorRecord]]:
    """The failed pages of a file, without their boxes: a stranger's record may have 60 MB of those."""
    return ((line, line.error) for _, line in read_lines(results) if line is not None and line.error is not None)


def failed_pages(results: Path) -> PageMarks:
    """The pages that have a failed record."""
    failed = PageMarks()
    for _, line in read_lines(results):
        if line is not None and line.status == "failed":
            failed[line.index] = 1
    return failed


def counts_of(results: Path) -> dict[str, int]:
    """How many pages have a record: ``total``, ``ok``, ``failed``; ``total`` alone if there is no file."""
    try:
        status = results.stat()
    except FileNotFoundError:
        return {"total": 0}
    return dict(_counts(results, status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=256)
def _counts(results: Path, changed_ns: int, size: int) -> Counter[str]:
    """Of a file as it was then: who asks for a list of jobs asks for each again, and ten million lines take 20 s."""
    marks = PageMarks()
    for _, line in read_lines(results):
        if line is not None:
            marks[line.index] = 1 if line.status == "ok" else 2
    ok, failed = (marks.count(mark) for mark in (1, 2))
    return Counter(total=ok + failed, ok=ok, failed=failed)


def rewrite(results: Path, keep: Callable[[int, Line], bool]) -> None:
    """Replace the file, in one step, by the lines for which ``keep(line number, Line)`` is true."""
    with atomic_write(results, sync=True) as part, open(part, "wb", opener=ours_to_write) as target:
        for number, (raw, line) in enumerate(read_lines(results)):
            if line is not None and keep(number, line):
                target.write(raw)


def iter_records(path: Path, damaged: Callable[[int], None] = lambda line: None) -> Iterator[ImageRecord]:
    """The records of a results file in the order of the file, of a page that has several all. See `placed_records`.

    Raises:
        FileNotFoundError: there are no results.
    """
    with named(path), open_there(path) as stream:
        yield from (record for _, record in placed_records(stream, damaged))


def placed_records(
    stream: BinaryIO, damaged: Callable[[int], None], place: int = 0
) -> Iterator[tuple[int, ImageRecord]]:
    """The records of a results file in the order of the file, each with its place, for `record_at`.

    From ``place`` on, where a line begins; lines are counted from there.

    A last line without its newline was torn by a crash and is left out. Any other line that is no record, or one of a
    page that no job has, is passed over too, and its number (from 1) is told to `damaged`.
    """
    for number, (at, line) in enumerate(placed_lines(stream, place), 1):
        if not line.endswith(b"\n"):
            return
        try:
            record = _decode_record(line)
        except UNREADABLE:
            damaged(number)
        else:
            if record.index < MOST_PAGES_OF_A_JOB:
                yield at, record
            else:
                damaged(number)


def record_at(stream: BinaryIO, place: int) -> ImageRecord:
    """The record at a place that `placed_records` told."""
    stream.seek(place)
    return _decode_record(stream.readline(MOST_LINE_BYTES))


def _is_empty(stream: BinaryIO, start: int, end: int) -> bool:
    """What a hole is: OpenZFS before 2.2.2 calls data that were just written one, and they would be cut off."""
    stream.seek(start)
    return not stream.read(end - start).strip(_NO_RECORD)


def truncate_torn_line(path: Path, block: int = 1 << 16) -> int:
    """Cuts off what follows the last newline, so that appending begins a new line. Returns the bytes cut."""
    with open(path, "r+b", opener=no_links) as stream:
        size = end = stream.seek(0, 2)
        step = block
        while end > 0:
            start = max(0, end - step)
            if _data_from(stream, start) >= end and _is_empty(stream, max(start, end - block), end):
                end, step = start, 2 * step  # a hole: larger steps, until there is data
                continue
            if step > block:
                step = block
                continue
            stream.seek(start)
            newline = stream.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            stream.truncate(end)
        return size - end


def send_results(results: Path, target: str) -> str:
    """Copy ``results.jsonl`` below an ``s3://`` prefix, replacing what is there. Returns its address.

    An object appears whole or not at all, so a reader never sees half a file.
    """
    from worker.storage.remote import s3, s3_errors

    address = f"{target.rstrip('/')}/{results.name}"
    files = s3()
    try:
        with open_there(results) as file:  # not what a link leads to that has its name by now
            opened = f"/proc/{os.getpid()}/fd/{file.fileno()}"
            files.put_file(opened if Path(opened).exists() else str(results), address.removeprefix("s3://"))
    except s3_errors() as error:
        raise CannotSendResultsError(
            f"{address}: {first_line(error)}; the results are in {results}, the same command again sends them"
        ) from None
    return address
