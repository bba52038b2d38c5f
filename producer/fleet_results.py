"""What `collect` leaves in OUT beside results.jsonl: the same files as `run`."""

from __future__ import annotations

from detector.cli.say import say
from producer.job.output_folder import JobRequest, OutputFolder, state_folder
from producer.output.collected_manifest import bring_manifest
from producer.output.ending import Ending
from producer.output.summary import finish, write_job_json
from worker.ledger.ledger import JobStatus


def finish_collected(
    folder: OutputFolder, request: JobRequest, status: JobStatus, *, count: int, failed: int, quiet: bool
) -> None:
    """Write job.json, manifest.jsonl, overlays and report.html of a collected job, and list what failed.

    While pages are missing only job.json and, where it can be had, the manifest.

    Args:
        folder: with results.jsonl.
        request: the job; its ``overlays`` and ``report`` say what is wanted.
        status: the job on its broker.
        count: records in results.jsonl.
        failed: of these, failed ones.
        quiet: one line of totals instead of a table.
    """
    state = "cancelled" if status.state == "cancelled" else "finished" if count == status.total else "open"
    seconds = (status.finished_s or status.progress_s or status.created_s) - status.created_s
    ending = Ending(status.total, count - failed, failed, count, seconds, interrupted=False)
    state_of = state_folder(status.job)
    # A list that came from the broker names files that must not be opened here; one of an older job, others.
    kept = None if state_of.heir or state_of.epoch != status.epoch else state_of.manifest
    known = bring_manifest(kept, folder.results, folder.manifest, status.total)
    if state == "open":
        write_job_json(folder, request, ending, state=state, fleet=True)
        return
    elsewhere = f"the images are known to {status.extra.get('host') or 'another machine'}, which enqueued {status.job}"
    finish(folder, request, ending, quiet=quiet, state=state, fleet=True, originals="" if known else elsewhere)
    if state == "cancelled":
        say(f"{status.job} was cancelled: {status.total - count} of {status.total} pages have no record")
