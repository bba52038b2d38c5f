"""Which pages of a watched job are done and collected: noted here, for the day the broker has lost the job."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import msgspec

from detector.record import UNREADABLE
from producer.job.job_epoch import is_ours, open_job, recognised
from producer.job.manifest import count_manifest
from producer.job.output_folder import OutputFolder, write_atomically
from producer.no_links import read_small
from worker.ledger.ledger import STATE_CHUNK, Ledger, chunked

MOST_FAILED = 1000
"""Failed pages of a note. Behind the last of them no page is noted as done."""


class NotedDone(msgspec.Struct, frozen=True):
    """The first pages of a job, all of which are done and collected.

    Attributes:
        epoch: which job of that name.
        pages: how many.
        failed: which of these failed.
    """

    epoch: str
    pages: int = 0
    failed: list[int] = []


def note_done(folder: OutputFolder, ledger: Ledger, job: str) -> None:
    """Keep the job alive, and note what is done of it. Nothing happens where the broker's job is another one.

    What somebody wrote there is believed of pages that the list has, and no longer than it has them.
    """
    status = recognised(folder, ledger, ledger.status(job))
    if status is None or not is_ours(folder, status) or not ledger.touch(job, epoch=folder.epoch, feeding=True):
        return
    noted = _done(ledger, job, folder)
    after = ledger.status(job)
    # Of a page whose record waits there nothing would be left if the broker were lost. Asked after its state.
    if after is not None and after.epoch == noted.epoch and not after.uncollected:
        with folder.held():
            write_atomically(_note(folder), msgspec.json.encode(noted))


def _done(ledger: Ledger, job: str, folder: OutputFolder) -> NotedDone:
    total, done, failed = count_manifest(folder.manifest), 0, list[int]()
    while done < total and len(failed) <= MOST_FAILED:
        states = ledger.states(job, done, min(STATE_CHUNK, total - done))
        first = re.match(rb"[of]*", states)
        end = len(first[0]) if first else 0
        found = re.finditer(b"f", states[:end])
        failed += [done + one.start() for one in islice(found, MOST_FAILED + 1 - len(failed))]
        done += end
        if end < min(STATE_CHUNK, total - done + end):
            break
    done = min([done, *failed[MOST_FAILED:]])
    return NotedDone(folder.epoch, done, failed[:MOST_FAILED])


def begin_again(folder: OutputFolder, ledger: Ledger, job: str) -> None:
    """The broker forgot a job, idle for too long or its data lost: what was noted is not sent again.

    Other pages are: one that is read twice has one record, and one that was on the queue would have none.
    """
    noted, total = _noted(folder), count_manifest(folder.manifest)
    epoch = open_job(folder, ledger, job, total)
    failed = {page for page in noted.failed if page < total}
    well = (page for page in range(min(noted.pages, total)) if page not in failed)
    for ok, pages in ((True, well), (False, sorted(failed))):
        for indices in chunked(pages):
            ledger.adopt(job, indices, ok=ok, epoch=epoch)


def _noted(folder: OutputFolder) -> NotedDone:
    """Nothing, where the note is of another job, of a version before, or none of ours."""
    nothing = NotedDone("")
    try:
        noted = msgspec.json.decode(read_small(_note(folder)), type=NotedDone)
    except (FileNotFoundError, *UNREADABLE):
        return nothing
    known = noted.epoch == folder.epoch and all(0 <= page < noted.pages for page in noted.failed)
    return noted if known else nothing


def _note(folder: OutputFolder) -> Path:
    return folder.private / "done"
