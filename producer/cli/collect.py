"""``ocr-producer collect``: a job's results from its broker to this machine."""

from __future__ import annotations

from pathlib import Path

import click

from detector.exit_codes import ExitCode
from producer.cli.options import job_argument, out_option, quiet_option


@click.command()
@job_argument
@out_option
@click.option("--follow", is_flag=True, help="Stay until the job is done.")
@quiet_option
def collect(job: str, out: Path, follow: bool, quiet: bool) -> ExitCode:
    """Write JOB's results to OUT/results.jsonl and remove them from Redis. Safe to interrupt and to repeat.

    Exit code 0 only when OUT then has a record of every image, and none of them failed.

    \b
    Example:
      ocr-producer collect archive-7 -o out --follow
    """
    from producer.fleet_job import collect_job, connect_fleet
    from producer.job.output_folder import OutputFolder

    app, ledger = connect_fleet()
    results = OutputFolder(out.absolute()).results
    collected = collect_job(app, ledger, job, results, follow=follow, quiet=quiet)
    click.echo(f"{results}: {collected.count} of {collected.total} records, {collected.failed} failed", err=True)
    if collected.why:
        click.echo(f"not complete: {collected.why}", err=True)
    return ExitCode.FAILED if collected.failed or collected.count < collected.total else ExitCode.OK
