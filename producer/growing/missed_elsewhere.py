"""Pages that a scan missed, met by a collector on another machine than the one that enqueued the job.

It cannot feed them, for it does not know where their file is. So it gives them their numbers in the job, says in the
job's hash which pages they are (field `missed`), and writes a failed record for each that names the machine and the
command. There the manifest takes them over, before anything else is done with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from producer.errors import UNCOUNTED
from producer.job.collect import Collector
from producer.job.manifest import ManifestIndex, ManifestLine, count_manifest
from producer.job.results_file import read_lines
from producer.job.upload import refuse
from worker.ledger.ledger import JobStatus, Ledger
from worker.messages import ImageTask
from worker.redis_keys import JobKeys

FIELD = "missed"


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


def find_missed(results: Path, total: int) -> list[tuple[Missed, str]]:
    """Files of which the records show fewer pages than their worker saw, and their names.

    Args:
        results: records of every page of the job, as far as it is known.
        total: pages of the job.
    """
    firsts: dict[int, tuple[str, int]] = {}
    for _, line in read_lines(results):
        if line is not None and line.page == 0 and line.pages > 1:
            firsts[line.index] = (line.image, line.pages)
    if not firsts:
        return []
    known = dict.fromkeys((image for image, _ in firsts.values()), 1)
    for _, line in read_lines(results):
        if line is not None and line.image in known and not (line.error and UNCOUNTED in line.error.message):
            known[line.image] = max(known[line.image], line.page + 1)
    found = []
    for first, (image, pages) in sorted(firsts.items()):
        if known[image] < pages:
            found.append((Missed(first, known[image], pages, total), image))
            total += pages - known[image]
    return found


def report_missed(ledger: Ledger, status: JobStatus, results: Path) -> list[str]:
    """Gives every missed page its failed record, in the ledger. Returns one line a file that says who must do what.

    Args:
        ledger: of the broker.
        status: the job, all of whose known pages have their record in `results`.
        results: the file.
    """
    told = _told(ledger, status.job)
    missed = find_missed(results, status.total)
    if missed:
        told += [one for one, _ in missed]
        ledger.client.hset(JobKeys.of(status.job).job, FIELD, msgspec.json.encode(told))
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
    while collector.step(block_ms=0):
        pass
    return said


def take_over(manifest: Path, ledger: Ledger, job: str) -> int:
    """The manifest gets the pages that a collector elsewhere found missing. Returns how many."""
    told = _told(ledger, job)
    if not told or not manifest.is_file():
        return 0
    total = count_manifest(manifest)
    lines: list[ManifestLine] = []
    with ManifestIndex(manifest) as index:
        for one in told:
            head = index.line(one.first)
            if head is None or one.begin != total + len(lines):
                continue  # taken over before
            lines += _lines(one, head)
    if lines:
        _append(manifest, lines)
    return len(lines)


def _lines(one: Missed, head: ManifestLine) -> Iterable[ManifestLine]:
    return (
        ManifestLine(one.begin + number, head.image, head.uri, one.known + number, None, one.first)
        for number in range(one.count)
    )


def _append(manifest: Path, lines: list[ManifestLine]) -> None:
    encoder = msgspec.json.Encoder()
    with manifest.open("ab") as stream:
        stream.write(b"".join(encoder.encode(line) + b"\n" for line in lines))
        stream.flush()
        os.fsync(stream.fileno())


def _told(ledger: Ledger, job: str) -> list[Missed]:
    raw = ledger.client.hget(JobKeys.of(job).job, FIELD)
    try:
        return msgspec.json.decode(raw, type=list[Missed]) if raw else []
    except msgspec.MsgspecError:  # not ours: whoever may write there wrote it
        return []
