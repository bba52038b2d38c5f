"""What is done again and what is not: records on disk of a job whose broker lost it, failed pages of a job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from detector.record import UNREADABLE
from producer.errors import OtherJobError
from producer.job.manifest import ManifestIndex
from producer.job.results_file import Line, PageMarks, decode_line, read_lines
from producer.job.results_owner import ResultsOwner, replace_owner
from worker.broker.short_replies import that_fit
from worker.ledger.ledger import ANY_EPOCH, Ledger, chunked
from worker.redis_keys import JobKeys

READ_AT_ONCE = 64  # records
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
    entries = {}
    for entry, fields in _uncollected(ledger, job):
        with suppress(*UNREADABLE, KeyError):  # the collector puts such entries aside
            line = decode_line(fields[b"record"])
            if line.status != "ok":
                entries[line.index] = entry
    failed = chunked(ledger.pages_in_state(job, b"f"))
    return sum(ledger.retry(job, indices, entries, epoch=epoch) for indices in failed)


def _uncollected(ledger: Ledger, job: str) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of a job's results stream, a few at a time."""
    after = "-"
    while found := that_fit(ledger.client.xrange(JobKeys.of(job).results, min=after, count=READ_AT_ONCE)):
        yield from found
        if (last := found[-1][0]) == LAST_ID:
            return  # Redis refuses to be asked what follows it
        after = "(" + last.decode()
