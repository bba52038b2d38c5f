"""One local job from start to report: `run`, and `resume` and `retry` of its output folder."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import closing
from dataclasses import replace
from functools import partial

from celery import Celery

from producer.errors import JobInterruptedError, NothingToDoError
from producer.growing.listed_anew import list_anew
from producer.growing.new_pages import look_for_new
from producer.job.collect import Collector
from producer.job.feed import Feeder
from producer.job.growth import Growth
from producer.job.interrupt import terminated_like_ctrl_c
from producer.job.loop import JobLoop
from producer.job.manifest import make_manifest, read_manifest
from producer.job.output_folder import JobRequest, OutputFolder, roots_of
from producer.job.recount import recount
from producer.job.results_file import drop_failed, failed_pages
from producer.job.view import View
from producer.local.beat import BeatThread
from producer.local.fleet import LocalFleet, check_installed, check_model
from producer.local.known_results import KnownResults
from producer.local.server_stamp import forget_server
from producer.output.ending import Ending
from producer.output.summary import finish
from producer.output.terminal import Progress
from producer.picture_list import check_list
from producer.sources.scan import SourceMissingError
from worker.app import app_for
from worker.broker import queue
from worker.ledger.ledger import Ledger, chunked
from worker.ledger.patient import open_ledger
from worker.messages import decode_task
from worker.settings import read_settings


def run_local_job(
    folder: OutputFolder,
    request: JobRequest,
    *,
    quiet: bool,
    retry: bool = False,
    update: bool | None = None,
    known: KnownResults | None = None,
) -> Ending:
    """Run or go on with a job on this machine: show it, and write its summary.

    Args:
        folder: where its files are.
        request: the job.
        quiet: show no progress.
        retry: do the failed pages again.
        update: add pages that are new in the sources; False only says how many there are, None does not look.
        known: of the folder's results, from the run before.

    Raises:
        JobInterruptedError: Ctrl-C or SIGTERM; what was done is safe.
        NothingToDoError: no page in the sources, or no failed page to do again.
        LocalFleetError: workers cannot run here.
        FolderBusyError: another process works in this folder.
        OthersFolderError: others may have written its list of pages, see `check_list`.
    """
    check_installed()
    check_model(request)
    ending, known = None, known or KnownResults()
    with folder.locked(), terminated_like_ctrl_c():
        check_list(folder, request)
        if retry and drop_failed_pages(folder) == 0:
            raise NothingToDoError(f"no failed images in {folder.root}")
        known.check(folder.results)
        try:
            with Progress(quiet=quiet) as progress:
                ending = run_job(folder, request, progress, update, known)
            if not ending.interrupted:
                finish(folder, request, ending, quiet=quiet, before=known.totals)
                known.keep(folder.results)
                return ending
        except KeyboardInterrupt:  # while scanning or writing the report
            ending = None
        except (NothingToDoError, SourceMissingError):
            folder.leave_unused()
            raise
    if not folder.exists():
        raise JobInterruptedError("interrupted while the images were counted: give the same command again")
    done = f"{ending.ok + ending.failed} of {ending.total} images are done and safe; " if ending else ""
    raise JobInterruptedError(f"interrupted: {done}go on with `ocr-producer resume {folder.root}`")


def run_job(
    folder: OutputFolder,
    request: JobRequest,
    view: View,
    update: bool | None = None,
    known: KnownResults | None = None,
) -> Ending:
    """Do what is left of the job. The folder must be locked by the caller.

    Ctrl-C (KeyboardInterrupt) stops the workers after their image, saves what they made, and returns.
    """
    started = time.monotonic()
    begun = folder.exists()
    total = make_manifest(folder, request, view)
    if begun and update is not None:
        total = look_for_new(folder, request, view, update=update)
    view.total = total
    folder.save_request(request)  # not before: a mistyped path must not make this the folder of another job
    with LocalFleet(folder, request) as fleet:
        current = replace(read_settings(os.environ), redis_url=fleet.start_server())
        app = app_for(current)
        ledger = open_ledger(current)
        ledger.create(request.job, total, {"out": str(folder.root)}, epoch=secrets.token_hex(8))
        status = ledger.status(request.job)
        epoch = status.epoch if status else ""
        growth, known = Growth(folder.manifest, ledger, request.job, total), known or KnownResults()
        with (
            closing(growth),
            Collector(ledger, request.job, folder.results, total, growth=growth, known=known.marks) as collector,
        ):
            growth.write()  # what an interrupted run had not come to
            ledger.grow(request.job, growth.total)
            view.total = growth.total
            _recover(app, ledger, request.job, collector)
            before = collector.count
            again = partial(read_manifest, folder.manifest)
            feeder = Feeder(
                app,
                ledger,
                request.job,
                again(ledger.first_to_feed(request.job)),
                limit_side=request.limit_side,
                options=request.options,
                epoch=epoch,
                again=again,
            )

            def look_after_workers() -> None:
                fleet.revive_server()
                if fleet.revive():
                    # Nobody else can hold a lease here but the others of this machine; running one of their images
                    # twice is harmless, waiting half a minute for a dead one's lease is not.
                    ledger.expire_leases(request.job)

            loop = JobLoop(app, ledger, request.job, view, feeder, collector, on_tick=look_after_workers, growth=growth)
            interrupted = False
            with BeatThread(app):
                fleet.start_workers()
                try:
                    loop.run()
                except KeyboardInterrupt:
                    interrupted = True
            view.update(collector.count, collector.failed, loop.peak_rss_mb, "stopping")
            fleet.stop_workers()
            for _ in collector.drain():
                pass
            ok, failed = collector.count - collector.failed, collector.failed
            fresh = collector.count - before
            total, known.marks = growth.total, collector.marks
    if not interrupted and ok + failed == total:
        forget_server(folder)
    return Ending(total, ok, failed, fresh, time.monotonic() - started, interrupted)


def _recover(app: Celery, ledger: Ledger, job: str, collector: Collector) -> None:
    """Make ledger and queue agree with what is on disk. Nothing to do on a fresh job.

    The private server may have lost its last second, or all its data; its queue holds messages of dead workers.
    """
    for _ in collector.drain():  # what was finished but not collected
        pass
    for ok in (True, False):
        for indices in chunked(collector.on_disk(ok=ok)):
            ledger.adopt(job, indices, ok=ok)
    ledger.reopen(job)
    queue.purge(ledger.client)
    ledger.expire_leases(job)
    for index in ledger.in_flight(job):
        if data := ledger.reclaim(job, index):
            queue.send(app, decode_task(data))


def drop_failed_pages(folder: OutputFolder) -> int:
    """Forget the failed records of a local job, so that :func:`run_job` does those pages again. Returns how many."""
    if not folder.results.exists():
        return 0
    failed = failed_pages(folder.results)
    if (
        failed and folder.manifest.exists()
    ):  # before they are dropped: a retry that is killed is begun again by the next
        request = folder.request()
        roots = roots_of(request, gone=True)
        recount(folder.manifest, failed, roots)
        list_anew(folder.manifest, failed, roots, request.zip_encoding)
    # The private server's ledger, if it still exists, says "failed": it is rebuilt from what is on disk.
    forget_server(folder)
    return len(drop_failed(folder.results))
