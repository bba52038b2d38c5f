"""``ocr-producer collect``: a job's results from its broker to this machine."""

from __future__ import annotations

from pathlib import Path

import click

from detector.cli.say import say
from detector.exit_codes import ExitCode
from producer.cli.options import job_argument, out_option, overlays_option, quiet_option, report_option


@click.command()
@job_argument
@out_option
@click.option("--follow", is_flag=True, help="Stay until the job is done.")
@overlays_option
@report_option
@quiet_option
def collect(job: str, out: Path, follow: bool, overlays: bool, report: bool, quiet: bool) -> ExitCode:
    """Write JOB's results to OUT/results.jsonl and remove them from Redis. Safe to interrupt and to repeat.

    When the job is done OUT holds what `run` leaves: job.json, manifest.jsonl, report.html. Pictures (--overlays, and
    those in the report) need the images, so collect on the machine that enqueued the job.

    Exit code 0 only when OUT then has a record of every image, and none of them failed.

    \b
    Examples:
      ocr-producer collect archive-7 -o out --follow
      ocr-producer collect archive-7 -o out --overlays
    """
    import msgspec

    from producer.fleet_job import collect_job, connect_fleet, get_job
    from producer.fleet_request import request_of
    from producer.fleet_results import finish_collected
    from producer.job.output_folder import OutputFolder

    app, ledger = connect_fleet()
    folder = OutputFolder(out.absolute())
    get_job(ledger, job)  # of a job that is not there no folder is made
    with folder.held():
        collected = collect_job(app, ledger, job, folder.results, follow=follow, quiet=quiet)
        request = msgspec.structs.replace(request_of(collected.status), overlays=overlays, report=report)
        status = collected.status._replace(total=collected.total)  # in Redis it may be anybody's
        finish_collected(folder, request, status, count=collected.count, failed=collected.failed, quiet=quiet)
    say(f"{folder.results}: {collected.count} of {collected.total} records, {collected.failed} failed")
    if collected.why:
        say(f"not complete: {collected.why}")
    return ExitCode.FAILED if collected.failed or collected.count < collected.total else ExitCode.OK
