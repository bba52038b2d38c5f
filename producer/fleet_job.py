"""A job on a fleet's broker: connect, feed, watch, collect, retry, cancel, forget."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from celery import Celery

from producer.errors import JobInterruptedError, NoSuchJobError, OtherJobError
from producer.fleet_request import remembered, remove_kept
from producer.growing.missed_elsewhere import close_gaps, make_whole, take_over
from producer.growing.new_pages import look_for_new
from producer.handover.list_copy import copying, drop_if_complete
from producer.job.begin_again import adopt
from producer.job.collect import Collector
from producer.job.feed import Feeder
from producer.job.growth import AddedUnfed, Growth
from producer.job.interrupt import terminated_like_ctrl_c
from producer.job.job_epoch import epoch_if_known, is_ours, open_job, pages_by_states, pages_here, recognised
from producer.job.loop import JobLoop
from producer.job.manifest import make_manifest, read_manifest
from producer.job.output_folder import JobRequest, OutputFolder, state_folder
from producer.job.results_file import send_results
from producer.job.results_owner import owner_of
from producer.job.sending.one_at_a_time import uploader_of
from producer.no_links import OthersFolderError
from producer.output.terminal import Progress
from producer.user_secret import state_base
from worker.broker.fitness import refuse_unfit
from worker.broker.queue import drop_in_hand, drop_job
from worker.ledger.ledger import JobStatus, Ledger, chunked
from worker.ops.diagnosis import diagnosis, look_around
from worker.settings import read_settings
from worker.storage.spool import MachineFault


@dataclass(frozen=True, slots=True)
class Fed:
    """What became of one feeding.

    Attributes:
        status: of the job at the end.
        sent: messages sent by this process.
        sent_to: address of the copy of results.jsonl; empty if none was asked for.
    """

    status: JobStatus
    sent: int
    sent_to: str = ""


@dataclass(frozen=True, slots=True)
class Collected:
    """What a results file holds after collecting.

    Attributes:
        total: pages of the job.
        count: pages with a record in the file, failed ones included.
        failed: of these, failed.
        status: of the job at the end.
        refused: entries in Redis that were no records of this job; they are kept beside the file.
        why: what keeps the job from being complete, if that is known.
    """

    total: int
    count: int
    failed: int
    status: JobStatus
    refused: int = 0
    why: str = ""


def connect_fleet() -> tuple[Celery, Ledger]:
    """The Celery app and the ledger of OCRFLEET_REDIS_URL.

    Raises:
        BrokerUnreachable: no answer from there.
        SettingsError: an environment variable holds something unusable.
    """
    # Here, not above: the app reads the environment when it is imported, and `--help` must not fail over that.
    from worker.app import app_for
    from worker.ledger.patient import open_ledger

    current = read_settings(os.environ)
    return app_for(current), open_ledger(current)


def get_job(ledger: Ledger, job: str) -> JobStatus:
    """The job's status.

    Raises:
        NoSuchJobError: the broker does not know it.
    """
    status = ledger.status(job)
    if status is None:
        raise NoSuchJobError(f"there is no job {job} on this broker (see `ocr-producer jobs`)")
    return status


def begin_or_continue(folder: OutputFolder, request: JobRequest, ledger: Ledger, *, adopting: bool = False) -> None:
    """Check that ``folder`` and the broker mean the same job by this name, or that both know none.

    Raises:
        OtherJobError: another machine's job, or one of other inputs.
    """
    job = request.job
    on_broker = ledger.status(job) is not None
    if not folder.exists():
        if on_broker:
            raise OtherJobError(
                f"job {job} was enqueued from another machine: choose another --job, or forget it first; if that "
                f"machine is lost, `ocr-producer resume {job}` here"
            )
    elif not on_broker and not adopting:  # else the pages must keep their numbers
        # The broker forgot the job (expired, or another broker): the sources are scanned again for a new one.
        with folder.locked():
            folder.forget_pages()
    elif folder.request().sources != request.sources:
        raise OtherJobError(f"job {job} has other inputs: choose another --job, or `ocr-producer forget {job}`")
    elif folder.request().options != request.options:
        raise OtherJobError(
            f"job {job} was enqueued with other thresholds, tiles or memory limit: give the same, or another --job"
        )


def feed_job(
    folder: OutputFolder,
    request: JobRequest,
    app: Celery,
    ledger: Ledger,
    *,
    watching: bool,
    quiet: bool,
    update: bool | None = None,
    adopted: Path | None = None,
    locked: bool = False,
) -> Fed:
    """Feed what is not fed yet.

    Args:
        folder: holds the job's manifest, and its results if ``request.output`` wants them.
        request: the job.
        app: sends the messages.
        ledger: of the same broker.
        watching: stay until every page has its record.
        update: as for `producer.local.job.run_local_job`.
        quiet: show no progress.
        adopted: results.jsonl of this job from before the broker lost it: its records count as done.
        locked: the caller holds the folder.

    Raises:
        JobInterruptedError: Ctrl-C or SIGTERM.
        OtherJobError: ``adopted`` is another job's.
        FolderBusyError: another process feeds this job.
        OSError: this machine's disk is full or broken.
    """
    job = request.job
    with nullcontext() if locked else folder.locked(), terminated_like_ctrl_c():
        if not (known := folder.manifest.exists()) or not folder.exists():
            folder.save_request(request)
        try:
            with Progress(quiet=quiet) as progress, ExitStack() as stack:
                before = partial(make_whole, folder, ledger, job)
                before()
                total = make_manifest(folder, request, progress)
                if known and update is not None:
                    total = look_for_new(folder, request, progress, update=update, before=before)
                folder.save_request(request)  # not if that was refused: `retry` beside the watch would go by it
                progress.total = total
                refuse_unfit(ledger.client)
                epoch = open_job(folder, ledger, job, total, remembered(request))
                ledger.grow(job, total)
                if adopted is not None:
                    adopt(ledger, adopted, folder.manifest, owner_of(get_job(ledger, job)))
                ledger.reopen(job)
                copy = copying(folder, request, ledger, get_job(ledger, job), progress.warn)
                copy()  # before the first page: no job has pages on their way and half a list
                uploader = stack.enter_context(uploader_of(ledger, folder, request, epoch))
                again = partial(read_manifest, folder.manifest)
                feeder = Feeder(
                    app,
                    ledger,
                    job,
                    again(ledger.first_to_feed(job)),
                    limit_side=request.limit_side,
                    options=request.options,
                    uploader=uploader,
                    epoch=epoch,
                    again=again,
                    urgent=request.urgent,
                )
                collector = None
                growth = Growth(folder.manifest, ledger, job, total, heir=folder.heir, epoch=epoch)
                stack.callback(growth.close)
                if request.output:
                    owner = owner_of(get_job(ledger, job))
                    collector = Collector(ledger, job, folder.results, total, owner=owner, growth=growth)
                    stack.enter_context(collector)
                    growth.write()
                status = JobLoop(app, ledger, job, progress, feeder, collector, not watching, copy, growth).run()
                if collector is not None:
                    drop_if_complete(ledger, status, collector.count)
        except KeyboardInterrupt:
            raise JobInterruptedError(f"interrupted: go on with `ocr-producer resume {job}`") from None
        except MachineFault as error:  # of a worker's page it says "failed"; here it is the disk of the user's machine
            raise OSError(error.errno, error.strerror, error.filename) from error
        sent_to = send_results(folder.results, request.output) if request.output else ""
    return Fed(status, feeder.sent, sent_to)


@contextmanager
def _missed_pages(app: Celery, ledger: Ledger, status: JobStatus) -> Iterator[tuple[Growth | None, Feeder | None]]:
    """What adds pages that the scan missed to a job that is only collected here, and what feeds them.

    Nothing on a machine that did not enqueue the job: it does not know where the files are.
    """
    folder = state_folder(job := status.job)
    if not (folder.exists() and folder.manifest.exists()) or not is_ours(folder, status):
        yield None, None
        return
    take_over(folder.manifest, ledger, job, opening=not folder.heir)
    request = folder.request()
    growth = Growth(folder.manifest, ledger, job, status.total, heir=folder.heir, epoch=status.epoch)
    try:
        # Before a record is read: of a smaller number those beyond it were refused.
        growth.put_right(status.total)
        with uploader_of(ledger, folder, request, status.epoch) as uploader:
            yield (
                growth,
                Feeder(
                    app,
                    ledger,
                    job,
                    AddedUnfed(growth, ledger, job),  # by whoever added them, and was ended before he fed them
                    limit_side=request.limit_side,
                    options=request.options,
                    uploader=uploader,
                    epoch=status.epoch,
                ),
            )
    finally:
        growth.close()


def watch_job(app: Celery, ledger: Ledger, job: str, *, quiet: bool) -> JobStatus:
    """Show the job's progress until its end.

    Raises:
        NoSuchJobError: the broker does not know it.
        JobInterruptedError: Ctrl-C; the job goes on.
    """
    total = get_job(ledger, job).total
    try:
        with Progress(quiet=quiet) as progress:
            progress.total = total
            return JobLoop(app, ledger, job, progress).run()
    except KeyboardInterrupt:
        raise JobInterruptedError("stopped watching; the job goes on") from None


def collect_job(app: Celery, ledger: Ledger, job: str, results: Path, *, follow: bool, quiet: bool) -> Collected:
    """Move the job's records from Redis to ``results``.

    Args:
        app: sends again what the ledger finds stranded.
        ledger: of the same broker.
        job: its name.
        results: the file to append to.
        follow: stay until the job is done.
        quiet: show no progress.

    Raises:
        NoSuchJobError: the broker does not know it.
        OtherJobError: the file holds another job's records.
        JobInterruptedError: Ctrl-C.
    """
    status = recognised(state_folder(job), ledger, get_job(ledger, job)) or get_job(ledger, job)
    with ExitStack() as stack:
        growth, feeder = stack.enter_context(_missed_pages(app, ledger, status))
        pages = growth.total if growth else pages_here(state_folder(job), status)
        collector = stack.enter_context(Collector(ledger, job, results, pages, owner=owner_of(status), growth=growth))
        try:
            with Progress(quiet=quiet) as progress:
                progress.total = collector.total
                loop = JobLoop(app, ledger, job, progress, feeder, collector, growth=growth)
                if growth:
                    folder = state_folder(job)
                    loop.on_tick = copying(folder, folder.request(), ledger, status, progress.warn)
                loop.grow([])  # by what was collected before an interruption
                if follow:
                    loop.run()
                else:
                    for lines in collector.drain():
                        loop.grow(lines)
                        progress.update(collector.count, collector.failed, 0.0, "collecting")
                    loop.on_tick()
                    if feeder:
                        feeder.step()
                said = [] if growth else close_gaps(ledger, job, collector)
        except KeyboardInterrupt:
            raise JobInterruptedError(
                f"interrupted: {collector.count} records are in {results}; repeat to go on"
            ) from None
        count, failed = collector.count, collector.failed
        now = get_job(ledger, job)
        more = sum(not collector.holds(index) for index in ledger.in_flight(job))
        total = growth.count() if growth else max(pages, pages_by_states(ledger, now), count + more)
        if count >= total:
            drop_if_complete(ledger, now, count)
        why = "; ".join(said) if said or count == total else _why_incomplete(ledger, job)
        return Collected(total, count, failed, get_job(ledger, job), collector.aside.count, why)


def _why_incomplete(ledger: Ledger, job: str) -> str:
    status = ledger.status(job)
    if status is None:
        return "the job was forgotten meanwhile"
    if status.finished and not status.uncollected:
        return "the others were collected elsewhere, or lost: `ocr-producer resume JOB --adopt OUT` does them again"
    return diagnosis(status, look_around(ledger)) or "the job is not done yet: collect again, or use --follow"


def cancel_job(ledger: Ledger, job: str) -> int:
    """Stop a job: what waits is dropped, what runs is finished. Returns how many pages were dropped."""
    ledger.cancel(job)
    drop_job(ledger.client, job)
    # As if never fed: `resume` feeds them again, and uploaded bytes do not wait for that in Redis. Counted are these,
    # not messages: those of pages that are fed meanwhile come later, and a worker drops them.
    return sum(ledger.unfeed(job, indices) for indices in chunked(ledger.in_flight(job)))


def forget_job(ledger: Ledger, job: str) -> int:
    """Remove all of a job's keys, and its manifest on this machine. Returns how many keys.

    Only removals: a full broker allows nothing else. The keys first: then nobody feeds it, and its messages can go.

    Raises:
        OthersFolderError: all keys are gone; what is left is what this machine keeps of it (`remove_kept`).
    """
    keys = ledger.forget(job, epoch_if_known(OutputFolder(state_base() / job)))
    drop_job(ledger.client, job)
    drop_in_hand(ledger.client, job)
    if left := remove_kept(state_base() / job):
        raise OthersFolderError(f"{job}: forgotten ({keys} keys removed), but {left}: look at it, and remove it")
    return keys
