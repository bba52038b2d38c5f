"""Commands about jobs on a broker: status, jobs, watch, cancel, forget."""

from __future__ import annotations

import click

from detector.cli.say import say, tell, tell_json
from detector.exit_codes import ExitCode
from producer.cli.options import check_job_name, job_argument, quiet_option

json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.command()
@click.argument("job", required=False, callback=check_job_name)
@json_option
def status(job: str | None, as_json: bool) -> None:
    """Counts, rate and time to go of JOB, or of all jobs.

    \b
    Example:
      ocr-producer status archive-7 --json
    """
    from dataclasses import asdict

    from producer.fleet_job import connect_fleet, get_job
    from producer.job.status import StatusRow
    from worker.ops.diagnosis import look_around

    _, ledger = connect_fleet()
    around = look_around(ledger)
    rows = [StatusRow.of(get_job(ledger, name), around) for name in ([job] if job else ledger.jobs())]
    if as_json:
        found = [asdict(row) for row in rows]
        tell_json(found[0] if job else found)
    else:
        tell(*(map(str, rows) if rows else ["no jobs"]))


@click.command()
@json_option
@click.pass_context
def jobs(context: click.Context, as_json: bool) -> None:
    """All jobs this broker knows, oldest first."""
    context.invoke(status, job=None, as_json=as_json)


@click.command()
@job_argument
@quiet_option
def watch(job: str, quiet: bool) -> ExitCode:
    """Show JOB's progress until it is done. Ctrl-C stops watching, not the job."""
    from producer.fleet_job import connect_fleet, watch_job
    from producer.job.status import StatusRow

    app, ledger = connect_fleet()
    last = watch_job(app, ledger, job, quiet=quiet)
    say(str(StatusRow.of(last)))
    return ExitCode.FAILED if last.failed or not last.finished else ExitCode.OK


@click.command()
@job_argument
def cancel(job: str) -> None:
    """Stop JOB: what waits is dropped, what runs is finished, what is done stays. `resume` goes on with it."""
    from producer.fleet_job import cancel_job, connect_fleet, get_job

    _, ledger = connect_fleet()
    get_job(ledger, job)
    say(f"{job}: cancelled, {cancel_job(ledger, job)} waiting images dropped")


@click.command()
@job_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(job: str, yes: bool) -> ExitCode:
    """Remove all of JOB's keys from Redis, uncollected results too, and its manifest on this machine."""
    from producer.fleet_job import connect_fleet, forget_job, get_job

    _, ledger = connect_fleet()
    uncollected = get_job(ledger, job).uncollected
    if uncollected and not yes and not _confirmed(f"{uncollected} results of {job} were never collected. Forget them?"):
        say(f"{job}: kept; collect it, or forget it with --yes")
        return ExitCode.FAILED
    say(f"{job}: forgotten ({forget_job(ledger, job)} keys removed)")
    return ExitCode.OK


def _confirmed(question: str) -> bool:
    """Whether the user says yes. No terminal, or Ctrl-C, means no."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        return False
