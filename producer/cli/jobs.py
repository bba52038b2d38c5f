"""Commands about jobs on a broker: status, jobs, watch, cancel, forget."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from producer.cli.fleet import job_argument
from producer.cli.options import check_job_name, clear_errors, quiet_option
from producer.errors import EXIT_FAILED_IMAGES, EXIT_INTERRUPTED, Stop
from producer.fleet_job import connect_fleet, get_job

if TYPE_CHECKING:
    from worker.ledger.ledger import JobStatus


def status_row(status: JobStatus) -> dict[str, Any]:
    """A job's status as the JSON that ``--json`` prints. Rates are over the job's whole life."""
    until = status.finished_s or time.time()
    seconds = max(0.001, until - status.created_s)
    rate = status.done / seconds
    left = status.total - status.done
    state = "finished" if status.finished else status.state
    return {
        "job": status.job,
        "state": state,
        "total": status.total,
        "ok": status.ok,
        "failed": status.failed,
        "in_flight": status.in_flight,
        "uncollected": status.uncollected,
        "images_per_second": round(rate, 3),
        "eta_seconds": round(left / rate, 1) if left and rate else (0 if not left else None),
        "last_progress_at": status.progress_s or None,
    }


def _say(row: dict[str, Any]) -> str:
    eta = row["eta_seconds"]
    left = f", {eta:.0f} s to go" if eta else ""
    return (
        f"{row['job']}: {row['state']}, {row['ok'] + row['failed']}/{row['total']} done, {row['failed']} failed, "
        f"{row['in_flight']} in flight, {row['uncollected']} to collect, {row['images_per_second']:.1f} images/s{left}"
    )


@click.command()
@click.argument("job", required=False, callback=check_job_name)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@clear_errors
def status(job: str | None, as_json: bool) -> None:
    """Counts, rate and time to go of JOB, or of all jobs.

    \b
    Example:
      ocr-producer status archive-7 --json
    """
    import json

    _, ledger = connect_fleet()
    rows = [status_row(get_job(ledger, name)) for name in ([job] if job else ledger.jobs())]
    if as_json:
        click.echo(json.dumps(rows[0] if job else rows))
    else:
        click.echo("\n".join(_say(row) for row in rows) or "no jobs")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def jobs(context: click.Context, as_json: bool) -> None:
    """All jobs this broker knows, oldest first."""
    context.invoke(status, job=None, as_json=as_json)


@click.command()
@job_argument
@quiet_option
@clear_errors
def watch(job: str, quiet: bool) -> None:
    """Show JOB's progress until it is done. Ctrl-C stops watching, not the job."""
    from producer.job.loop import JobLoop
    from producer.output.terminal import Progress

    app, ledger = connect_fleet()
    total = get_job(ledger, job).total
    try:
        with Progress(quiet=quiet) as progress:
            progress.total = total
            last = JobLoop(app, ledger, job, progress).run()
    except KeyboardInterrupt:
        raise Stop("stopped watching; the job goes on", EXIT_INTERRUPTED) from None
    click.echo(_say(status_row(last)), err=True)
    raise SystemExit(EXIT_FAILED_IMAGES if last.failed else 0)


@click.command()
@job_argument
@clear_errors
def cancel(job: str) -> None:
    """Stop JOB: what waits is dropped, what runs is finished, what is done stays. `resume` goes on with it."""
    from worker.broker.queue import drop_job
    from worker.ledger.ledger import chunked

    _, ledger = connect_fleet()
    get_job(ledger, job)
    ledger.cancel(job)
    dropped = drop_job(ledger.client, job)
    # As if never fed: `resume` feeds them again, and uploaded bytes do not wait for that in Redis.
    for indices in chunked(ledger.in_flight(job)):
        ledger.unfeed(job, indices)
    click.echo(f"{job}: cancelled, {dropped} waiting images dropped", err=True)


@click.command()
@job_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@clear_errors
def forget(job: str, yes: bool) -> None:
    """Remove all of JOB's keys from Redis, uncollected results too, and its manifest on this machine."""
    import shutil

    from producer.job.output_folder import state_folder
    from worker.broker.queue import drop_job

    _, ledger = connect_fleet()
    status = get_job(ledger, job)
    if status.uncollected and not yes:
        click.confirm(f"{status.uncollected} results of {job} were never collected. Forget them?", abort=True)
    # Only removals: a broker whose memory is full allows nothing else, and this is how it is emptied. The keys go
    # first; from then on nobody can feed the job, so its messages can go too.
    keys = ledger.forget(job)
    drop_job(ledger.client, job)
    shutil.rmtree(state_folder(job).root, ignore_errors=True)
    click.echo(f"{job}: forgotten ({keys} keys removed)", err=True)
