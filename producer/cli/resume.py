"""``ocr-producer resume`` and ``retry``: continue an OUT folder of `run`, or a JOB of `enqueue`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from detector.cli.say import say
from detector.exit_codes import ExitCode
from producer.cli.enqueue import say_fed
from producer.cli.options import quiet_option
from producer.errors import NoSuchJobError, NothingToDoError

target_argument = click.argument("target", metavar="OUT|JOB")


@click.command()
@target_argument
@click.option(
    "--adopt",
    "adopted",
    type=click.Path(path_type=Path, file_okay=False),
    help="Of a JOB whose collected results are lost: what is in this output folder (none yet: nothing) counts as done, "
    "all other images are done again.",
)
@quiet_option
def resume(target: str, adopted: Path | None, quiet: bool) -> ExitCode:
    """Go on with an interrupted job: an OUT folder of `run`, or a JOB of `enqueue`.

    A JOB whose machine is lost goes on here, unless that machine sent its images (--transfer redis).

    \b
    Examples:
      ocr-producer resume out
      ocr-producer resume archive-7
      ocr-producer resume archive-7 --adopt out
    """
    return _resume_or_retry(target, quiet=quiet, retry=False, adopted=adopted)


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


def _resume_or_retry(target: str, *, quiet: bool, retry: bool, adopted: Path | None = None) -> ExitCode:
    from producer.fleet_job import connect_fleet, feed_job, get_job
    from producer.growing.listed_anew import list_anew
    from producer.growing.missed_elsewhere import make_whole
    from producer.handover.inherit import do_lost_again, inherit
    from producer.job.begin_again import retry_on_broker
    from producer.job.job_epoch import recognised, refuse_others
    from producer.job.output_folder import OutputFolder, roots_of, state_folder
    from producer.job.recount import recount
    from producer.no_links import OthersFolderError
    from worker.messages import JOB_NAME

    folder = OutputFolder(Path(target).absolute())
    if folder.exists():
        try:
            is_job = "/" not in target and JOB_NAME.match(target) and state_folder(target).exists()
        except OthersFolderError as error:  # what `run` made lies elsewhere
            raise click.UsageError(f"{error}; or give ./{target} for the folder here") from None
        if is_job:
            # Jobs are called as folders of pictures are, and a stranger's may hold one that says what is read.
            raise click.UsageError(
                f"{target} is a job of `enqueue` and a folder here: give ./{target}, or go elsewhere"
            )
        if adopted is not None:
            raise click.UsageError("--adopt is for a JOB of `enqueue`, not for an output folder of `run`")
        from producer.local.job import run_local_job

        return run_local_job(folder, folder.request(), quiet=quiet, retry=retry).exit_code
    if not JOB_NAME.match(target):
        raise NoSuchJobError(f"{target} is neither an output folder of `run` nor a job's name")
    app, ledger = connect_fleet()
    status = get_job(ledger, target)
    folder = state_folder(target)
    if not folder.exists():
        if retry:
            raise NoSuchJobError(f"{target} was enqueued on another machine: retry it there, or `resume` it here first")
        count = inherit(ledger, status, folder)
        say(f"{target}: this machine goes on with it; its list of {count} images came from the broker")
    else:  # before anything is changed
        status = recognised(folder, ledger, status) or status
        refuse_others(folder, status)
    results = None if adopted is None else OutputFolder(adopted.absolute()).results
    if results is not None and (again := do_lost_again(folder, ledger, status, results)):
        say(f"{target}: {again} images are done again, since {adopted} has no record of them")
    request, watching = folder.request(), sys.stderr.isatty()
    with folder.locked():  # a watched folder adds to the list
        if retry and folder.manifest.exists() and not folder.heir:  # which would open what the broker's list names
            roots = roots_of(request, gone=True)
            before = partial(make_whole, folder, ledger, target)
            before()
            recount(folder.manifest, ledger.pages_in_state(target, b"f"), roots, before)
            list_anew(folder.manifest, ledger.pages_in_state(target, b"f"), roots, request.zip_encoding, before)
        if retry and retry_on_broker(ledger, target, status.epoch) == 0:
            raise NothingToDoError(f"job {target} has no failed images")
        fed = feed_job(folder, request, app, ledger, watching=watching, quiet=quiet, locked=True)
    return say_fed(fed, watching=watching)
