"""Commands that move pages and records through a broker: enqueue, collect, and resume/retry of a JOB."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from producer.cli.options import (
    absolute,
    check_job_name,
    clear_errors,
    limit_side_option,
    out_option,
    quiet_option,
    sources_argument,
)
from producer.errors import EXIT_FAILED_IMAGES, EXIT_NOTHING, Stop
from producer.fleet_job import broker, feed_job, known, missed_pages, retry_on_broker

if TYPE_CHECKING:
    from producer.job.output_folder import JobRequest

job_argument = click.argument("job", callback=check_job_name)


@click.command()
@sources_argument
@click.option("--job", required=True, callback=check_job_name, help="Name of the job.")
@click.option(
    "--transfer",
    type=click.Choice(["uri", "redis"]),
    default="uri",
    show_default=True,
    help="How workers get the bytes: uri: they open the same path or address (shared folders, s3://, https://); "
    "redis: they travel through the broker (no shared disk).",
)
@click.option(
    "--shrink/--no-shrink",
    default=None,
    help="With --transfer redis: send pages at the size the network sees. Default: on in profile low, where possible.",
)
@click.option("--output", default="", metavar="s3://…", help="With --watch: collect, and put results.jsonl there.")
@limit_side_option
@click.option("--watch", "watching", is_flag=True, help="Stay until every image is done, showing progress.")
@quiet_option
@clear_errors
def enqueue(
    sources: tuple[str, ...],
    job: str,
    transfer: str,
    shrink: bool | None,
    output: str,
    limit_side: int | None,
    watching: bool,
    quiet: bool,
) -> None:
    """Scan PATH... and feed it to the workers of OCRFLEET_REDIS_URL. The same command again adds nothing.

    \b
    Examples:
      ocr-producer enqueue /shared/scans --job archive-7 --watch
      ocr-producer enqueue 'inbox/*.pdf' --job inbox && ocr-producer collect inbox -o out --follow
      ocr-producer enqueue scans/ --job far-away --transfer redis --shrink --watch
      ocr-producer enqueue s3://bucket/scans --job cloud --watch --output s3://bucket/results
    """
    from producer.job.output_folder import JobRequest, state_folder

    folder = state_folder(job)
    if output and not (watching and output.startswith("s3://")):
        raise click.UsageError("--output takes an s3:// address, and --watch")
    if shrink and transfer != "redis":
        raise click.UsageError("--shrink makes sense with --transfer redis only")
    request = JobRequest(
        job=job, sources=absolute(sources), limit_side=limit_side or 0, transfer=transfer, output=output
    )
    request = _with_shrinking(request, shrink)
    app, ledger = broker()
    if not folder.exists() and ledger.status(job) is not None:
        raise Stop(f"job {job} was enqueued from another machine: choose another --job, or forget it first", 2)
    if folder.exists() and ledger.status(job) is None:
        # The broker forgot the job (expired, or another broker): it begins anew, with a fresh look at the sources.
        with folder.locked():
            folder.forget_pages()
    elif folder.exists() and folder.request().sources != request.sources:
        raise Stop(f"job {job} has other inputs: choose another --job, or `ocr-producer forget {job}`", 2)
    feed_job(folder, request, app, ledger, watching=watching, quiet=quiet)


def _with_shrinking(request: JobRequest, wanted: bool | None) -> JobRequest:
    """Decide whether this machine makes pages small before they travel, and to what size."""
    import msgspec

    from producer.detector_process.shrink import can_shrink
    from worker.settings import read_settings

    if request.transfer != "redis":
        return request
    current = read_settings(os.environ)
    if wanted and not can_shrink():
        raise click.UsageError("--shrink needs an image library on this machine: pip install 'ocrfleet[worker]'")
    if wanted is None:
        wanted = current.profile.name == "low" and can_shrink()
    if not wanted:
        return request
    return msgspec.structs.replace(request, shrink=True, limit_side=request.limit_side or current.limit_side)


@click.command()
@job_argument
@out_option
@click.option("--follow", is_flag=True, help="Stay until the job is done.")
@quiet_option
@clear_errors
def collect(job: str, out: Path, follow: bool, quiet: bool) -> None:
    """Write JOB's results to OUT/results.jsonl and remove them from Redis. Safe to interrupt and to repeat.

    \b
    Example:
      ocr-producer collect archive-7 -o out --follow
    """
    from producer.job.collect import Collector
    from producer.job.loop import Drive
    from producer.job.output_folder import OutFolder
    from producer.job.results_owner import origin_of
    from producer.output.terminal import Progress

    app, ledger = broker()
    status = known(ledger, job)
    total = status.total
    results = OutFolder(out.absolute()).results
    with (
        missed_pages(app, ledger, job, total) as (growth, feeder),
        Collector(
            ledger, job, results, total, origin=origin_of(status), on_disk=growth.note if growth else lambda line: None
        ) as collector,
    ):
        if growth and feeder:
            feeder.go_on(growth.write())
        try:
            with Progress(quiet=quiet) as progress:
                progress.total = total
                if follow:
                    Drive(app, ledger, job, progress, feeder, collector, growth=growth).go()
                else:
                    while lines := collector.step(block_ms=0):
                        if growth and feeder:
                            for line in lines:
                                growth.note(line)
                            feeder.go_on(growth.write())
                            feeder.step()
                        progress.update(collector.count, collector.failed, 0.0, "collecting")
        except KeyboardInterrupt:
            raise Stop(f"interrupted: {collector.count} records are in {results}; repeat to go on", 130) from None
        count, failed = collector.count, collector.failed
        total = growth.total if growth else total
    click.echo(f"{results}: {count} of {total} records, {failed} failed", err=True)
    raise SystemExit(EXIT_FAILED_IMAGES if failed else 0)


@click.command()
@click.argument("target", metavar="OUT|JOB")
@quiet_option
@clear_errors
def resume(target: str, quiet: bool) -> None:
    """Go on with an interrupted job: an OUT folder of `run`, or a JOB of `enqueue`.

    \b
    Examples:
      ocr-producer resume out
      ocr-producer resume archive-7
    """
    _again(target, quiet=quiet, retry=False)


@click.command()
@click.argument("target", metavar="OUT|JOB")
@quiet_option
@clear_errors
def retry(target: str, quiet: bool) -> None:
    """Do the failed images of OUT or JOB again.

    \b
    Example:
      ocr-producer retry out
    """
    _again(target, quiet=quiet, retry=True)


def _again(target: str, *, quiet: bool, retry: bool) -> None:
    from producer.cli.run import go, local_folder
    from producer.job.output_folder import state_folder
    from worker.messages import JOB_NAME

    local = local_folder(target)
    if local is not None:
        go(local, local.request(), quiet=quiet, retry=retry)
    if not JOB_NAME.match(target):
        raise Stop(f"{target} is neither an output folder of `run` nor a job's name", EXIT_NOTHING)
    folder = state_folder(target)
    app, ledger = broker()
    known(ledger, target)
    if not folder.exists():
        raise Stop(f"{target} was enqueued on another machine: {'retry' if retry else 'resume'} it there", EXIT_NOTHING)
    if retry and retry_on_broker(ledger, target) == 0:
        raise Stop(f"job {target} has no failed images", EXIT_NOTHING)
    feed_job(folder, folder.request(), app, ledger, watching=sys.stderr.isatty(), quiet=quiet)
