"""A job on a fleet's broker: connect, feed, retry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from producer.errors import EXIT_FAILED_IMAGES, EXIT_INTERRUPTED, EXIT_NOTHING, Stop

if TYPE_CHECKING:
    from producer.job.feed import Feeder
    from producer.job.growth import Growth
    from producer.job.output_folder import JobRequest
    from producer.job.upload import Uploader
    from worker.ledger.ledger import JobStatus, Ledger


def broker() -> tuple[Any, Ledger]:
    """The Celery app and the ledger of OCRFLEET_REDIS_URL."""
    from worker.app import app_for
    from worker.ledger.patient import open_ledger
    from worker.settings import read_settings

    current = read_settings(os.environ)
    return app_for(current), open_ledger(current)


def known(ledger: Ledger, job: str) -> JobStatus:
    """The job's status, or an exit that says there is none."""
    status = ledger.status(job)
    if status is None:
        raise Stop(f"there is no job {job} on this broker (see `ocr-producer jobs`)", EXIT_NOTHING)
    return status


def feed_job(folder: Any, request: Any, app: Any, ledger: Ledger, *, watching: bool, quiet: bool) -> None:
    """Feed what is not fed yet; with ``watching`` stay until the end. Leaves with the right exit code."""
    from producer.job.collect import Collector
    from producer.job.feed import Feeder
    from producer.job.growth import Growth
    from producer.job.interrupt import terminated_like_ctrl_c
    from producer.job.loop import Drive
    from producer.job.manifest import make_manifest, read_manifest
    from producer.job.results_file import send_results
    from producer.job.results_owner import origin_of
    from producer.output.terminal import Progress
    from worker.ops.worker_registry import program_version

    job = request.job
    with folder.locked(), terminated_like_ctrl_c():
        folder.save_request(request)
        feeder = None
        try:
            with Progress(quiet=quiet) as progress, ExitStack() as stack:
                progress.total = total = make_manifest(folder, request, progress)
                ledger.create(job, total, {"manifest": str(folder.manifest), "version": program_version()})
                ledger.grow(job, total)
                ledger.reopen(job)
                uploader = stack.enter_context(_uploader(ledger, request))
                lines = read_manifest(folder.manifest)
                feeder = Feeder(app, ledger, job, lines, limit_side=request.limit_side, uploader=uploader)
                collector = None
                growth = Growth(folder.manifest, ledger, job, total)
                stack.callback(growth.close)
                if request.output:
                    origin = origin_of(known(ledger, job))
                    collector = stack.enter_context(
                        Collector(ledger, job, folder.results, total, origin=origin, on_disk=growth.note)
                    )
                    growth.write()
                drive = Drive(app, ledger, job, progress, feeder, collector, until_fed=not watching, growth=growth)
                status = drive.go()
                total = growth.total
        except KeyboardInterrupt:
            raise Stop(f"interrupted: go on with `ocr-producer resume {job}`", EXIT_INTERRUPTED) from None
        if request.output:
            click.echo(send_results(folder.results, request.output), err=True)
    click.echo(f"{job}: {total} images, {feeder.sent} sent now, {status.done} done, {status.failed} failed", err=True)
    if not watching:
        click.echo(
            f"follow it with `ocr-producer watch {job}`, or `ocr-producer collect {job} -o OUT --follow`", err=True
        )
    raise SystemExit(EXIT_FAILED_IMAGES if watching and status.failed else 0)


@contextmanager
def missed_pages(app: Any, ledger: Ledger, job: str, total: int) -> Iterator[tuple[Growth | None, Feeder | None]]:
    """What adds pages that the scan missed to a job that is only collected here, and what feeds them.

    Both None on a machine that did not enqueue the job: it does not know where the files are.
    """
    from producer.job.feed import Feeder
    from producer.job.growth import Growth
    from producer.job.manifest import count_manifest
    from producer.job.output_folder import state_folder

    folder = state_folder(job)
    if not (folder.exists() and folder.manifest.exists() and count_manifest(folder.manifest) == total):
        yield None, None
        return
    request = folder.request()
    growth = Growth(folder.manifest, ledger, job, total)
    try:
        with _uploader(ledger, request) as uploader:
            yield growth, Feeder(app, ledger, job, (), limit_side=request.limit_side, uploader=uploader)
    finally:
        growth.close()


@contextmanager
def _uploader(ledger: Ledger, request: JobRequest) -> Iterator[Uploader | None]:
    """What uploads the job's pages, None if workers open them themselves."""
    from producer.job.upload import Uploader

    if request.transfer != "redis":
        yield None
        return
    with Uploader(ledger, request.job, limit_side=request.limit_side, shrink=request.shrink) as uploader:
        yield uploader


def retry_on_broker(ledger: Ledger, job: str) -> int:
    """Failed pages of a job become unfed; their uncollected records go. Returns how many pages."""
    import msgspec

    from producer.job.results_file import Line
    from worker.ledger.ledger import chunked
    from worker.redis_keys import JobKeys

    decoder = msgspec.json.Decoder(Line)
    results = JobKeys.of(job).results
    stale = [key for key, fields in ledger.client.xrange(results) if decoder.decode(fields[b"record"]).status != "ok"]
    for keys in (stale[start : start + 1000] for start in range(0, len(stale), 1000)):
        ledger.client.xdel(results, *keys)
    return sum(ledger.retry(job, indices) for indices in chunked(ledger.pages_in_state(job, b"f")))
