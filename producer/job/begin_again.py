"""What is done again and what is not: records on disk of a job whose broker lost it, failed pages of a job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from detector.record import UNREADABLE
from producer.bounds import MOST_PAGES_OF_A_JOB
from producer.errors import OtherJobError
from producer.job.collecting.few_at_first import FewAtFirst
from producer.job.collecting.true_records import true_records
from producer.job.manifest import ManifestIndex
from producer.job.results_file import Line, PageMarks, decode_line, read_lines
from producer.job.results_owner import ResultsOwner, replace_owner
from worker.ledger.ledger import ANY_EPOCH, Ledger, chunked
from worker.redis_keys import JobKeys

LAST_ID = b"18446744073709551615-18446744073709551615"
"""Of a stream: somebody else put it there."""

_OK, _FAILED = 1, 2


def adopt(ledger: Ledger, results: Path, manifest: Path, owner: ResultsOwner) -> int:
    """Count what ``results`` holds as done, and make the file this job's. Returns how many pages were news.

    Args:
        ledger: of the broker, where the job is open.
        results: the file.
        manifest: the job's pages; a record whose image or page is another than there is another job's.
        owner: the job.

    Raises:
        OtherJobError: the file holds a record of a page that is not the job's.
        FileNotFoundError: there is no such file.
    """
    with ManifestIndex(manifest) as pages:
        last = PageMarks()
        for line in _lines(results):
            page = pages.line(line.index)
            if page is not None and line.status != "ok" and page.image.startswith(f"{line.image}/"):
                continue  # an archive's, which `retry` has listed anew since
            if page is None or (page.image, page.page) != (line.image, line.page):
                raise OtherJobError(
                    f"{results} is not of this job: it holds page {line.page} of {line.image} as number {line.index}; "
                    "leave --adopt out, and collect into another folder"
                )
            last[line.index] = _OK if line.status == "ok" else _FAILED
    replace_owner(results, owner)
    count = 0
    for mark in (_OK, _FAILED):
        for indices in chunked(last.pages(mark)):
            count += ledger.adopt(owner.job, indices, ok=mark == _OK, epoch=owner.epoch)
    return count


def _lines(results: Path) -> Iterator[Line]:
    return (line for _, line in read_lines(results) if line is not None)


def retry_on_broker(ledger: Ledger, job: str, epoch: str = ANY_EPOCH) -> int:
    """Failed pages of a job become unfed and their uncollected records go, in one step. Returns how many pages.

    Raises:
        JobReplacedError: the job of this name is not of this epoch any more.
    """
    entries = dict[int, bytes]()
    for some in _uncollected(ledger, job):
        found = [(entry, line) for entry, line in some if line.status != "ok"]
        is_true = true_records(ledger, job, found)
        entries |= {line.index: entry for entry, line in found if entry in is_true}
    failed = chunked(ledger.pages_in_state(job, b"f"))
    return sum(ledger.retry(job, indices, entries, epoch=epoch) for indices in failed)


def _uncollected(ledger: Ledger, job: str) -> Iterator[list[tuple[bytes, Line]]]:
    """The records that wait in a job's results stream now, some at a time; the collector puts aside what is none."""
    results, after, ask = JobKeys.of(job).results, "-", FewAtFirst()
    left = ledger.client.xlen(results)
    while left > 0 and (found := ask.that_fit(ledger.client.xrange(results, min=after, count=ask.count))):
        yield [(entry, line) for entry, fields in found if (line := _record(fields)) is not None]
        left -= len(found)
        if (last := found[-1][0]) == LAST_ID:
            return  # Redis refuses to be asked what follows it
        after = "(" + last.decode()


def _record(fields: dict[bytes, bytes]) -> Line | None:
    try:
        line = decode_line(fields.get(b"record", b""))
    except UNREADABLE:
        return None
    return line if 0 <= line.index < MOST_PAGES_OF_A_JOB else None
