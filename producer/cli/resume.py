"""``ocr-producer resume`` and ``retry``: continue an OUT folder of `run`, or a JOB of `enqueue`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from detector.exit_codes import ExitCode
from producer.cli.enqueue import say_fed
from producer.cli.options import quiet_option
from producer.errors import NoSuchJobError, NothingToDoError

target_argument = click.argument("target", metavar="OUT|JOB")


@click.command()
@target_argument
@quiet_option
def resume(target: str, quiet: bool) -> ExitCode:
    """Go on with an interrupted job: an OUT folder of `run`, or a JOB of `enqueue`.

    \b
    Examples:
      ocr-producer resume out
      ocr-producer resume archive-7
    """
    return _resume_or_retry(target, quiet=quiet, retry=False)


@click.command()
@target_argument
@quiet_option
def retry(target: str, quiet: bool) -> ExitCode:
    """Do the failed images of OUT or JOB again.

    \b
    Example:
      ocr-producer retry out
    """
    return _resume_or_retry(target, quiet=quiet, retry=True)


def _resume_or_retry(target: str, *, quiet: bool, retry: bool) -> ExitCode:
    from producer.fleet_job import connect_fleet, feed_job, get_job
    from producer.growing.missed_elsewhere import take_over
    from producer.job.begin_again import retry_on_broker
    from producer.job.output_folder import OutputFolder, state_folder
    from producer.job.recount import recount
    from worker.messages import JOB_NAME

    folder = OutputFolder(Path(target).absolute())
    if folder.exists():
        from producer.local.job import run_local_job

        return run_local_job(folder, folder.request(), quiet=quiet, retry=retry).exit_code
    if not JOB_NAME.match(target):
        raise NoSuchJobError(f"{target} is neither an output folder of `run` nor a job's name")
    app, ledger = connect_fleet()
    get_job(ledger, target)
    folder = state_folder(target)
    if not folder.exists():
        raise NoSuchJobError(
            f"{target} was enqueued on another machine: {'retry' if retry else 'resume'} it there",
        )
    take_over(folder.manifest, ledger, target)
    if retry and folder.manifest.exists():
        recount(folder.manifest, ledger.pages_in_state(target, b"f"))
    if retry and retry_on_broker(ledger, target) == 0:
        raise NothingToDoError(f"job {target} has no failed images")
    watching = sys.stderr.isatty()
    return say_fed(feed_job(folder, folder.request(), app, ledger, watching=watching, quiet=quiet), watching=watching)
