"""``ocr-producer enqueue``: pages to the workers of a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from detector.exit_codes import ExitCode
from producer.cli.options import (
    absolute,
    check_job_name,
    limit_side_option,
    quiet_option,
    read_option,
    sniff_option,
    sources_argument,
    zip_encoding_option,
)

if TYPE_CHECKING:
    from producer.fleet_job import Fed


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
@read_option
@sniff_option
@zip_encoding_option
@click.option("--watch", "watching", is_flag=True, help="Stay until every image is done, showing progress.")
@quiet_option
def enqueue(
    sources: tuple[str, ...],
    job: str,
    transfer: str,
    shrink: bool | None,
    output: str,
    limit_side: int | None,
    read: str,
    sniff: bool,
    zip_encoding: str,
    watching: bool,
    quiet: bool,
) -> ExitCode:
    """Scan PATH... and feed it to the workers of OCRFLEET_REDIS_URL. The same command again adds nothing.

    \b
    Examples:
      ocr-producer enqueue /shared/scans --job archive-7 --watch
      ocr-producer enqueue 'inbox/*.pdf' --job inbox && ocr-producer collect inbox -o out --follow
      ocr-producer enqueue scans/ --job far-away --transfer redis --shrink --watch
      ocr-producer enqueue s3://bucket/scans --job cloud --watch --output s3://bucket/results
    """
    from producer.fleet_job import begin_or_continue, choose_shrinking, connect_fleet, feed_job
    from producer.job.output_folder import JobRequest, state_folder

    if output and not (watching and output.startswith("s3://")):
        raise click.UsageError("--output takes an s3:// address, and --watch")
    if shrink and transfer != "redis":
        raise click.UsageError("--shrink makes sense with --transfer redis only")
    request = choose_shrinking(
        JobRequest(
            job=job,
            sources=absolute(sources),
            limit_side=limit_side or 0,
            transfer=transfer,
            output=output,
            read=read,
            sniff=sniff,
            zip_encoding=zip_encoding,
        ),
        shrink,
    )
    app, ledger = connect_fleet()
    folder = state_folder(job)
    begin_or_continue(folder, request, ledger)
    return say_fed(feed_job(folder, request, app, ledger, watching=watching, quiet=quiet), watching=watching)


def say_fed(fed: Fed, *, watching: bool) -> ExitCode:
    """Say what was fed and how it stands. Gives the exit code."""
    job = fed.status.job
    if fed.sent_to:
        click.echo(fed.sent_to, err=True)
    click.echo(
        f"{job}: {fed.status.total} images, {fed.sent} sent now, {fed.status.done} done, {fed.status.failed} failed",
        err=True,
    )
    if not watching:
        follow = f"`ocr-producer watch {job}`, or `ocr-producer collect {job} -o OUT --follow`"
        click.echo(f"follow it with {follow}", err=True)
    return ExitCode.FAILED if watching and fed.status.failed else ExitCode.OK
