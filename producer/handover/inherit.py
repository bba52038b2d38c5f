"""This machine goes on with a job whose machine is lost: its list of pages comes from the broker.

What stands in Redis may be anybody's who has a worker's password. So nothing that such a list names is opened here: its
pages go to workers, which open what their own OCRFLEET_ROOTS allow; none is counted, drawn or sent from here
(`--transfer redis`). The list is unpacked in pieces, within bounds, line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec

from detector.atomic import atomic_write
from detector.record import UNREADABLE
from producer.bounds import MOST_LINE_BYTES, MOST_PAGES_OF_A_JOB
from producer.errors import OtherJobError
from producer.fleet_request import request_of
from producer.growing.missed_elsewhere import add_told, make_whole
from producer.handover.list_copy import FIELD, NoListError, extent, unpacked
from producer.held_folder import ours_to_write
from producer.job.collect import Collector
from producer.job.growth import Growth
from producer.job.job_epoch import claim_inheritance
from producer.job.manifest import ManifestLine, count_manifest, write_lines
from producer.job.output_folder import JobRequest, OutputFolder
from producer.job.results_owner import owner_of
from worker.ledger.ledger import JobStatus, Ledger, chunked
from worker.ops.diagnosis import FED_S

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}\Z")


def inherit(ledger: Ledger, status: JobStatus, folder: OutputFolder) -> int:
    """Make this machine the job's producer. Returns how many pages it has.

    Args:
        ledger: of the broker.
        status: of the job.
        folder: where this machine keeps the job; nothing is there.

    Raises:
        OtherJobError: its producer is at work, or its pages' bytes come from there.
        NoListError: the list is not on the broker, not all of it, or damaged.
    """
    job, host = status.job, status.extra.get("host", "")
    machine = host if _HOST.match(host) else "another machine"
    request = request_of(status)
    if request.transfer != "uri":
        raise OtherJobError(f"{job} was enqueued on {machine}, which sends its pages' bytes: resume it there")
    # Who fed a moment ago is not lost.
    if 0 <= status.now_s - status.fed_s < FED_S:
        raise OtherJobError(
            f"{job} was enqueued on {machine}, and fed {status.now_s - status.fed_s:.0f} s ago: resume it there, or "
            f"here in {FED_S:.0f} s if that machine is lost"
        )
    there = extent(status.extra.get(FIELD, ""))
    if not there.size:
        raise NoListError(
            f"{job} was enqueued on {machine}, and its list of pages is not on the broker: resume it there"
        )
    with folder.locked():
        with atomic_write(folder.manifest, sync=True) as part:
            with open(part, "wb", opener=ours_to_write) as stream:
                write_lines(stream, _checked(unpacked(ledger, job, there)))
            with open(part, "ab", opener=ours_to_write) as stream:
                add_told(stream, part, ledger, job, opening=False)
            count = count_manifest(part)
            if count < status.total:  # more: of a number that somebody made smaller
                raise NoListError(
                    f"the broker has {count} of {status.total} pages of {job}'s list: resume it on {machine}"
                )
            ledger.grow(job, count)
            # Before the list has its name: where it lies, its mark lies too.
            claim_inheritance(folder, ledger, status)
        # Last: a folder with a request is a job's. No source is scanned, no bucket written to with this user's keys:
        # what is asked of the workers is all that is taken over.
        asked = JobRequest(
            job=job, sources=[], limit_side=request.limit_side, options=request.options, urgent=request.urgent
        )
        folder.save_request(asked)
    return count


def _checked(pieces: Iterator[bytes]) -> Iterator[ManifestLine]:
    """Lines of a manifest, numbered from 0.

    Raises:
        NoListError: it is none.
    """
    decoder = msgspec.json.Decoder(ManifestLine)
    rest, number = b"", 0
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if len(line) > MOST_LINE_BYTES:
                raise NoListError(f"the list of pages on the broker is damaged at page {number}")
            try:
                entry = decoder.decode(line)
            except UNREADABLE as error:
                raise NoListError(f"the list of pages on the broker is damaged at page {number} ({error})") from None
            if entry.index != number or entry.page < 0 or number >= MOST_PAGES_OF_A_JOB:
                raise NoListError(f"the list of pages on the broker is not this job's (page {number})")
            yield entry
            number += 1
        if len(rest) > MOST_LINE_BYTES:
            raise NoListError(f"the list of pages on the broker is damaged at page {number}")


def do_lost_again(folder: OutputFolder, ledger: Ledger, status: JobStatus, results: Path) -> int:
    """Pages that are done, but whose record is neither in Redis nor in ``results``, become unfed again.

    They were collected on the machine that is lost. Returns how many.

    Args:
        folder: of the job on this machine; its list, where there is one, says which pages the job has.
        ledger: of the broker.
        status: of the job.
        results: what there is of it; what waits in Redis is collected into it.

    Raises:
        AlreadyCollectingError: somebody collects the job, so they may be there.
        OtherJobError: the file holds another job's records.
        JobReplacedError: the job is another one by now.
    """
    make_whole(folder, ledger, status.job)
    count, total, growth = 0, status.total, None
    with ExitStack() as stack:
        if folder.manifest.is_file():
            growth = Growth(folder.manifest, ledger, status.job, total, heir=folder.heir, epoch=status.epoch)
            stack.callback(growth.close)
            total = growth.put_right(total)
        owner = owner_of(status)
        collector = stack.enter_context(Collector(ledger, status.job, results, total, owner=owner, growth=growth))
        for done in chunked(ledger.pages_in_state(status.job, b"of")):
            # In this order: a record that came meanwhile is in Redis, and nobody else takes it from there.
            for _ in collector.drain():
                pass
            lost = [index for index in done if not collector.holds(index)]
            count += ledger.redo(status.job, lost, epoch=status.epoch)
    return count
