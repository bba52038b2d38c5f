"""``ocr-producer enqueue``: pages to the workers of a broker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detector.cli.say import say
from detector.exit_codes import ExitCode
from producer.cli.options import (
    absolute,
    check_job_name,
    follow_links_option,
    limit_side_option,
    page_options,
    quiet_option,
    sniff_option,
    sources_argument,
    update_option,
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
@click.option(
    "--adopt",
    "adopted",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Output folder of this job's `collect` from before the broker lost it: what is there is not done again.",
)
@click.option("--urgent", is_flag=True, help="Take these images before those of other jobs that wait.")
@limit_side_option
@page_options
@update_option
@sniff_option
@zip_encoding_option
@follow_links_option
@click.option("--watch", "watching", is_flag=True, help="Stay until every image is done, showing progress.")
@quiet_option
def enqueue(
    sources: tuple[str, ...],
    job: str,
    transfer: str,
    shrink: bool | None,
    output: str,
    adopted: Path | None,
    urgent: bool,
    limit_side: int | None,
    sniff: bool,
    zip_encoding: str,
    follow_links: bool,
    watching: bool,
    update: bool,
    quiet: bool,
    **options: Any,
) -> ExitCode:
    """Scan PATH... and feed it to the workers of OCRFLEET_REDIS_URL. The same command again adds nothing.

    \b
    Examples:
      ocr-producer enqueue /shared/scans --job archive-7 --watch
      ocr-producer enqueue 'inbox/*.pdf' --job inbox && ocr-producer collect inbox -o out --follow
      ocr-producer enqueue scans/ --job far-away --transfer redis --shrink --watch
      ocr-producer enqueue s3://bucket/scans --job cloud --watch --output s3://bucket/results
      ocr-producer enqueue /shared/scans --job archive-7 --adopt out
    """
    from producer.fleet_job import begin_or_continue, connect_fleet, feed_job
    from producer.fleet_request import choose_shrinking
    from producer.job.output_folder import JobRequest, OutputFolder, state_folder
    from producer.sources.remote import check_sources
    from worker.page_options import PageOptions

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
            options=PageOptions(**options),
            urgent=urgent,
            sniff=sniff,
            zip_encoding=zip_encoding,
            follow_links=follow_links,
        ),
        shrink,
    )
    check_sources(request.sources)
    app, ledger = connect_fleet()
    folder = state_folder(job)
    begin_or_continue(folder, request, ledger, adopting=adopted is not None)
    results = OutputFolder(adopted.absolute()).results if adopted else None
    fed = feed_job(folder, request, app, ledger, watching=watching, quiet=quiet, adopted=results, update=update)
    return say_fed(fed, watching=watching)


def say_fed(fed: Fed, *, watching: bool) -> ExitCode:
    """Say what was fed and how it stands. Gives the exit code."""
    job = fed.status.job
    if fed.sent_to:
        say(fed.sent_to)
    say(f"{job}: {fed.status.total} images, {fed.sent} sent now, {fed.status.done} done, {fed.status.failed} failed")
    if not watching:
        follow = f"`ocr-producer watch {job}`, or `ocr-producer collect {job} -o OUT --follow`"
        say(f"follow it with {follow}")
    incomplete = fed.status.failed or not fed.status.finished
    return ExitCode.FAILED if watching and incomplete else ExitCode.OK
