"""One local job from start to report: `run`, and `resume` and `retry` of its output folder."""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import dataclass, replace

from celery import Celery

from producer.job.collect import Collector
from producer.job.feed import Feeder
from producer.job.growth import Growth
from producer.job.loop import Drive
from producer.job.manifest import make_manifest, read_manifest
from producer.job.output_folder import JobRequest, OutFolder
from producer.job.results_file import drop_failed
from producer.job.view import View
from producer.local.beat import BeatThread
from producer.local.fleet import LocalFleet
from worker.app import app_for
from worker.broker import queue
from worker.ledger.ledger import Ledger, chunked
from worker.ledger.patient import open_ledger
from worker.messages import decode_task
from worker.settings import read_settings


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended.

    Attributes:
        total: pages of the job.
        ok, failed: of these, over all runs.
        fresh: pages that this run did; fewer than ``total`` after an interruption or a retry.
        seconds: that this run took.
        interrupted: whether pages are left.
    """

    total: int
    ok: int
    failed: int
    fresh: int
    seconds: float
    interrupted: bool


def run_job(folder: OutFolder, request: JobRequest, view: View) -> Ending:
    """Do whatever of the job is not done yet. The folder must be locked by the caller.

    Ctrl-C (KeyboardInterrupt) stops the workers after their image, saves what they made, and returns.
    """
    started = time.monotonic()
    view.total = total = make_manifest(folder, request, view)
    with LocalFleet(folder, request) as fleet:
        current = replace(read_settings(os.environ), redis_url=fleet.start_server())
        app = app_for(current)
        ledger = open_ledger(current)
        ledger.create(request.job, total, {"out": str(folder.root)})
        growth = Growth(folder.manifest, ledger, request.job, total)
        with (
            closing(growth),
            Collector(ledger, request.job, folder.results, total, on_disk=growth.note) as collector,
        ):
            growth.write()  # what an interrupted run had not come to
            ledger.grow(request.job, growth.total)
            view.total = growth.total
            _recover(app, ledger, request.job, collector)
            before = collector.count
            pages = read_manifest(folder.manifest)
            feeder = Feeder(app, ledger, request.job, pages, limit_side=request.limit_side)

            def look_after_workers() -> None:
                if fleet.revive():
                    # Nobody else can hold a lease here but the others of this machine; running one of their images
                    # twice is harmless, waiting half a minute for a dead one's lease is not.
                    ledger.expire_leases(request.job)

            drive = Drive(app, ledger, request.job, view, feeder, collector, on_tick=look_after_workers, growth=growth)
            interrupted = False
            with BeatThread(app):
                fleet.start_workers()
                try:
                    drive.go()
                except KeyboardInterrupt:
                    interrupted = True
            view.update(collector.count, collector.failed, drive.peak_rss_mb, "stopping")
            fleet.stop_workers()
            while collector.step(block_ms=0):
                pass
            ok, failed = collector.count - collector.failed, collector.failed
            fresh = collector.count - before
            total = growth.total
    if not interrupted and ok + failed == total:
        folder.forget_server()
    return Ending(total, ok, failed, fresh, time.monotonic() - started, interrupted)


def _recover(app: Celery, ledger: Ledger, job: str, collector: Collector) -> None:
    """Make ledger and queue agree with what is on disk. Nothing to do on a fresh job.

    The private server may have lost its last second, or all its data; its queue holds messages of dead workers.
    """
    while collector.step(block_ms=0):  # what was finished but not collected
        pass
    for ok in (True, False):
        for indices in chunked(collector.on_disk(ok=ok)):
            ledger.adopt(job, indices, ok=ok)
    ledger.reopen(job)
    queue.purge(ledger.client)
    ledger.expire_leases(job)
    for index in ledger.in_flight(job):
        if (data := ledger.reclaim(job, index)) is not None:
            queue.send(app, decode_task(data))


def retry_failed(folder: OutFolder) -> int:
    """Forget the failed records of a local job, so that :func:`run_job` does those pages again. Returns how many."""
    if not folder.results.exists():
        return 0
    # The private server's ledger, if it still exists, says "failed": it is rebuilt from what is on disk.
    folder.forget_server()
    return len(drop_failed(folder.results))
