"""A job on a fleet's broker: connect, feed, retry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from producer.errors import EXIT_FAILED_IMAGES, EXIT_INTERRUPTED, EXIT_NOTHING, Stop

if TYPE_CHECKING:
    from producer.job.output_folder import JobRequest
    from producer.job.upload import Uploader
    from worker.ledger.ledger import JobStatus, Ledger


def connect_fleet() -> tuple[Any, Ledger]:
    """The Celery app and the ledger of OCRFLEET_REDIS_URL."""
    from worker.app import app_for
    from worker.ledger.patient import open_ledger
    from worker.settings import read_settings

    current = read_settings(os.environ)
    return app_for(current), open_ledger(current)


def get_job(ledger: Ledger, job: str) -> JobStatus:
    """The job's status, or an exit that says there is none."""
    status = ledger.status(job)
    if status is None:
        raise Stop(f"there is no job {job} on this broker (see `ocr-producer jobs`)", EXIT_NOTHING)
    return status


def feed_job(folder: Any, request: Any, app: Any, ledger: Ledger, *, watching: bool, quiet: bool) -> None:
    """Feed what is not fed yet; with ``watching`` stay until the end. Leaves with the right exit code."""
    from producer.job.collect import Collector
    from producer.job.feed import Feeder
    from producer.job.interrupt import terminated_like_ctrl_c
    from producer.job.loop import JobLoop
    from producer.job.manifest import make_manifest, read_manifest
    from producer.job.results_file import send_results
    from producer.job.results_owner import owner_of
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
                ledger.reopen(job)
                uploader = stack.enter_context(_uploader(ledger, request))
                lines = read_manifest(folder.manifest)
                feeder = Feeder(app, ledger, job, lines, limit_side=request.limit_side, uploader=uploader)
                collector = None
                if request.output:
                    owner = owner_of(get_job(ledger, job))
                    collector = stack.enter_context(Collector(ledger, job, folder.results, total, owner=owner))
                status = JobLoop(app, ledger, job, progress, feeder, collector, until_fed=not watching).run()
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
