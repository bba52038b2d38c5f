"""``ocr-producer watch-folder``: a folder that others put images into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from producer.cli.options import check_job_name, limit_side_option, page_options


@click.command("watch-folder")
@click.argument("root", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), help="Detect here, results to OUT.")
@click.option("--job", callback=check_job_name, help="Or: feed this job to the workers of OCRFLEET_REDIS_URL.")
@click.option("--transfer", type=click.Choice(["uri", "redis"]), default="uri", show_default=True, help="With --job.")
@click.option("--poll", default=5.0, show_default=True, type=click.FloatRange(0.1), help="Seconds between two looks.")
@click.option(
    "--settle", default=10.0, show_default=True, type=click.FloatRange(0), help="Take files that old and unchanged, s."
)
@limit_side_option
@page_options
def watch_folder(
    root: Path,
    out: Path | None,
    job: str | None,
    transfer: str,
    poll: float,
    settle: float,
    limit_side: int | None,
    **options: Any,
) -> None:
    """Detect text in what comes into DIR: each file once, when it has stopped growing. Until Ctrl-C.

    The same command goes on after an interruption. A file that is changed after it was taken is not taken again.

    \b
    Examples:
      ocr-producer watch-folder inbox -o out
      ocr-producer watch-folder /srv/inbox --job inbox --transfer redis
      ocr-producer collect inbox -o out       (now and then, or with --follow)
    """
    from producer.job.output_folder import JobRequest
    from producer.watch_folder import watch_into_folder, watch_into_job
    from worker.page_options import PageOptions

    if (out is None) == (job is None):
        raise click.UsageError("give either -o OUT (detect on this machine) or --job NAME (feed a fleet)")
    root = root.absolute()
    request = JobRequest(
        job=job or "watch-folder",
        sources=[str(root)],
        limit_side=limit_side or 0,
        transfer=transfer,
        report=False,
        options=PageOptions(**options),
    )
    if out is not None:
        watch_into_folder(root, out.absolute(), request, poll_s=poll, settle_s=settle)
    else:
        watch_into_job(root, request, poll_s=poll, settle_s=settle)
