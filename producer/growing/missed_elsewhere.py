"""Pages that a scan missed, met by a collector on another machine than the one that enqueued the job.

It cannot feed them, for it does not know where their file is. So it gives them their numbers in the job, says in the
job's hash which pages they are (field `missed`), and writes a failed record for each that names the machine and the
command. There the manifest takes them over, before anything else is done with it.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec

from detector.record import UNREADABLE
from producer.archive_process.limited_readers import limited_readers
from producer.bounds import MOST_PAGES_OF_A_FILE, MOST_PAGES_OF_A_JOB
from producer.errors import NO_MORE, UNCOUNTED
from producer.job.collect import Collector
from producer.job.growth import believed
from producer.job.job_epoch import is_ours, recognised
from producer.job.manifest import ManifestIndex, ManifestLine, count_manifest, write_lines
from producer.job.output_folder import OutputFolder
from producer.job.results_file import Line, read_lines, truncate_torn_line
from producer.job.sending.refusal import refuse
from producer.whole_append import rewriting, whole_append
from worker.ledger.ledger import JobStatus, Ledger
from worker.messages import ImageTask
from worker.redis_keys import JobKeys

logger = logging.getLogger(__name__)
FIELD = "missed"
MOST_MISSED = 1_000_000
"""Pages of a job that get a record here: 10,000 PDFs of 100 pages. Records come from Redis, where each may say any
number, and nobody here can look at the files."""

MOST_FILES = 10_000
"""Of these: 700 KB in the job's hash. What is much longer is not read from there (worker/broker/short_replies.py)."""


NAMES_AT_ONCE = 100_000
"""Of such files are held: 33 MB; three million were 1 GB. Each time the records are read twice."""

MOST_LIST_BYTES = 256 << 20
"""Of the manifest's lines for these: a file's name of 16 KB, on a million of them, was 16 GB of disk."""


class Missed(msgspec.Struct, frozen=True):
    """Pages of one file.

    Attributes:
        first: index of the file's first page in the job.
        known: how many pages the job had of it.
        pages: how many it has.
        begin: index in the job of the first page that was missed.
    """

    first: int
    known: int
    pages: int
    begin: int

    @property
    def count(self) -> int:
        """How many pages were missed."""
        return self.pages - self.known


def find_missed(results: Path, total: int, most: int = MOST_MISSED) -> list[tuple[Missed, str]]:
    """Files of which the records show fewer pages than their worker saw, and their names.

    Args:
        results: records of every page of the job, as far as it is known.
        total: pages of the job.
        most: of these pages, in all of the files.
    """
    short = _short_files(results, min(total, MOST_PAGES_OF_A_JOB))
    found: list[tuple[Missed, str]] = []
    end = min(total + most, MOST_PAGES_OF_A_JOB)
    firsts = (index for index, mark in enumerate(short) if mark)
    while some := set(islice(firsts, NAMES_AT_ONCE)):
        for first, image, says, known in _known(results, some):
            pages = min(says, MOST_PAGES_OF_A_FILE)
            if known < pages and total + pages - known > end:
                logger.error("%a has %d pages, the job %d of them; the rest is left out", image, says, known)
            elif known < pages:
                found.append((Missed(first, known, pages, total), image))
                total += pages - known
    return found


def _short_files(results: Path, total: int) -> bytearray:
    """Marks the first pages, by index, of files behind whose first page not all others follow.

    Pages that their worker found later have other indices: whether those are all is not known here. Memory: 5 bytes a
    page of the job, 8 a file of several pages.
    """
    shown = array("I")  # by index, see `_shows`
    files = array("Q")  # index of the first page, and how many there are, in its lower half
    for _, line in read_lines(results):
        if line is not None and 0 <= line.index < total:
            while len(shown) <= line.index:
                shown.frombytes(bytes(4 * min(1 << 16, total - len(shown))))
            shown[line.index] = _shows(line)
            if line.page == 0 and line.pages > 1:
                files.append(line.index << 32 | min(line.pages, MOST_PAGES_OF_A_FILE))
    short = bytearray(len(shown))
    for file in files:
        first, count = file >> 32, file & 0xFFFFFFFF
        for number in range(count):
            pages = shown[first + number] if first + number < len(shown) else 0
            if pages == MOST_PAGES_OF_A_FILE:
                break
            if pages != number + 1 and number:  # the first may be one that could not be counted
                short[first] = 1
                break
    return short


def _shows(line: Line) -> int:
    """How many pages of its file a record shows that the job has; all there may be where no more are taken."""
    said = line.error.message if line.error else ""
    if NO_MORE in said:
        return MOST_PAGES_OF_A_FILE
    return 0 if UNCOUNTED in said else min(max(0, line.page) + 1, MOST_PAGES_OF_A_FILE)


def _known(results: Path, firsts: set[int]) -> list[tuple[int, str, int, int]]:
    """Of files: index of the first page, name, pages that it has, and how many the records show."""
    heads = {}
    for _, line in read_lines(results):
        if line is not None and line.index in firsts and line.page == 0 and line.pages > 1:
            heads[line.index] = (line.image, line.pages)
    known = dict.fromkeys((image for image, _ in heads.values()), 1)
    for _, line in read_lines(results):
        if line is not None and line.image in known:
            known[line.image] = max(known[line.image], _shows(line))
    return [(first, image, says, known[image]) for first, (image, says) in sorted(heads.items())]


def report_missed(ledger: Ledger, status: JobStatus, results: Path) -> list[str]:
    """Gives every missed page its failed record, in the ledger. Returns one line a file that says who must do what.

    Args:
        ledger: of the broker.
        status: the job, all of whose known pages have their record in `results`.
        results: the file.
    """
    # Of one that ended between its two steps some are told that have no number yet: they are found, and told, again.
    told = [one for one in _told(ledger, status.job) if one.begin + one.count <= status.total]
    missed = find_missed(results, status.total, MOST_MISSED - sum(one.count for one in told))
    if len(told) + len(missed) > MOST_FILES:
        logger.error(
            "more than %d files of job %s have more pages than it; the rest is left out", MOST_FILES, status.job
        )
        missed = missed[: max(0, MOST_FILES - len(told))]
    if missed and (now := ledger.status(status.job)) is not None and now.total != status.total:
        return []  # those numbers are others' by now: its producer has added pages
    if missed:
        told += [one for one, _ in missed]
        ledger.note(status.job, {FIELD: msgspec.json.encode(told).decode()})
        ledger.grow(status.job, told[-1].begin + told[-1].count)
    host = status.extra.get("host") or "the machine that enqueued it"
    remedy = f"run `ocr-producer retry {status.job}` on {host}, then collect again"
    lines = []
    for one, image in missed:
        for number in range(one.count):
            task = ImageTask(
                job=status.job,
                index=one.begin + number,
                image=image,
                uri="",
                page=one.known + number,
                epoch=status.epoch,
            )
            said = f"{image}: page {task.page + 1} of {one.pages} was not counted when the job was enqueued; {remedy}"
            refuse(ledger, task, "NotFound", said)
        lines.append(f"{one.count} pages of {image} were not counted when the job was enqueued; {remedy}")
    return lines


def close_gaps(ledger: Ledger, job: str, collector: Collector) -> list[str]:
    """As `report_missed`, once every known page has its record; the failed records are collected too."""
    status = ledger.status(job)
    if status is None or not status.finished or collector.count < status.total:
        return []
    said = report_missed(ledger, status, collector.results)
    for _ in collector.drain():
        pass
    return said


def make_whole(folder: OutputFolder, ledger: Ledger, job: str) -> None:
    """Before the list of this machine's job grows: it gets what a collector elsewhere found, see `take_over`.

    The states behind its pages are a stranger's, and go. Nothing happens where the broker's job is another one.
    """
    status = recognised(folder, ledger, ledger.status(job))
    if status is not None and is_ours(folder, status) and folder.manifest.is_file():
        take_over(folder.manifest, ledger, job, opening=not folder.heir)
        ledger.cut(job, count_manifest(folder.manifest), epoch=folder.epoch)


def take_over(manifest: Path, ledger: Ledger, job: str, *, opening: bool = True) -> int:
    """The manifest gets the pages that a collector elsewhere found missing. Returns how many.

    Args:
        manifest: of the job.
        ledger: of the broker.
        job: its name.
        opening: whether files of the list may be opened here: not of one that came from the broker.
    """
    if not _told(ledger, job) or not manifest.is_file():
        return 0
    with rewriting(manifest):
        truncate_torn_line(manifest)
    with whole_append(manifest) as stream:
        return add_told(stream, manifest, ledger, job, opening=opening)


def add_told(stream: BinaryIO, manifest: Path, ledger: Ledger, job: str, *, opening: bool) -> int:
    """As `take_over`, to the end of the list, which is open. Returns how many."""
    with ManifestIndex(manifest) as index, limited_readers() as readers:
        pages = partial(believed, readers=readers, opening=opening)
        return write_lines(stream, _taken_over(_told(ledger, job), index, pages))


def _taken_over(told: list[Missed], index: ManifestIndex, pages: Callable[[str, int], int]) -> Iterable[ManifestLine]:
    total, left = index.count, MOST_LIST_BYTES
    ends = dict[int, int]()
    for one in told:
        head = index.line(one.first)
        if (
            head is not None and one.begin == total and _is_missed(one, head, index, ends, pages)
        ):  # else taken over before
            ends[one.first] = one.pages
            left -= one.count * len(msgspec.json.encode(head))
            if left < 0:
                logger.error("%a and what follows is left out: the list of pages is too long", head.image)
                return
            total += one.count
            yield from _lines(one, head)


def _is_missed(
    one: Missed, head: ManifestLine, index: ManifestIndex, ends: dict[int, int], pages: Callable[[str, int], int]
) -> bool:
    """Whether the file may have such pages, and the list has not: 100,000 of a JPEG, ten times, were 98 MB of disk."""
    last = max(index.added.to(one.first), default=one.first + one.known)
    there = index.line(last)
    has = there is not None and there.uri == head.uri and there.problem is None and there.page >= one.known
    known = has or head.page > 0 or one.known < ends.get(one.first, 1)
    return not known and pages(head.uri, one.pages) >= one.pages


def _lines(one: Missed, head: ManifestLine) -> Iterable[ManifestLine]:
    return (
        ManifestLine(one.begin + number, head.image, head.uri, one.known + number, None, one.first)
        for number in range(one.count)
    )


def _told(ledger: Ledger, job: str) -> list[Missed]:
    raw = ledger.client.hget(JobKeys.of(job).job, FIELD)
    try:
        told = msgspec.json.decode(raw, type=list[Missed]) if raw else []
    except UNREADABLE:  # not ours: whoever may write there wrote it
        return []
    return told if _is_ours(told) else []


def _is_ours(told: list[Missed]) -> bool:
    """Whether it is what `report_missed` writes: one behind the other, within its bounds."""
    ends = [one.begin + one.count for one in told]
    return (
        all(0 <= one.first < one.begin and 1 <= one.known < one.pages <= MOST_PAGES_OF_A_FILE for one in told)
        and all(one.begin >= end for one, end in zip(told[1:], ends, strict=False))
        and sum(one.count for one in told) <= MOST_MISSED
        and max(ends, default=0) <= MOST_PAGES_OF_A_JOB
    )
