"""``ocr-producer run``: a job on this machine alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from detector.cli.say import say
from detector.exit_codes import ExitCode
from producer.cli.options import (
    absolute,
    check_job_name,
    default_job_name,
    follow_links_option,
    limit_side_option,
    out_option,
    overlays_option,
    page_options,
    quiet_option,
    report_option,
    sniff_option,
    sources_argument,
    update_option,
    zip_encoding_option,
)
from producer.errors import OtherJobError

if TYPE_CHECKING:
    from producer.job.output_folder import JobRequest

PAGE_OPTIONS = ("box_threshold", "unclip_ratio", "binarize", "tiled", "memory_limit_mb", "shape", "read")
# Options that all pages of a job must share, and those that may differ from one run of it to the next.
_FIXED = ("job", "limit_side", "profile", "model", "runtime", *PAGE_OPTIONS)
_FREE = ("workers", "overlays", "report")


def _absolute_model(context: click.Context, parameter: click.Parameter, model: str | None) -> str:
    """The job's model, the environment's if none is given: resuming elsewhere must go on with the same one."""
    from detector.models import choose_model, is_file_name
    from worker.settings import settings

    model = choose_model(model, context.params["runtime"]) if model else settings().model
    return str(Path(model).absolute()) if is_file_name(model) else model


@click.command()
@sources_argument
@out_option
@click.option("--job", callback=check_job_name, help="Name of the job; default: job-DATE-TIME.")
@click.option(
    "--profile",
    type=click.Choice(["auto", "low", "standard", "accurate"]),
    default="auto",
    show_default=True,
    help="Limits for this machine; `low` is the low-spec switch.",
)
@limit_side_option
@page_options
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes to start.")
@click.option(
    "--model",
    callback=_absolute_model,
    help="A model's name, or an .onnx file.  [default: the best that was fetched, else dbnet-resnet18]",
)
@click.option(
    "--runtime",
    is_eager=True,
    type=click.Choice(["auto", "onnxruntime", "openvino", "torch"]),
    default="auto",
    show_default=True,
    help="Inference engine.",
)
@overlays_option
@report_option
@update_option
@sniff_option
@zip_encoding_option
@follow_links_option
@quiet_option
def run(
    sources: tuple[str, ...],
    out: Path,
    job: str | None,
    profile: str,
    limit_side: int | None,
    workers: int,
    model: str,
    runtime: str,
    overlays: bool,
    report: bool,
    update: bool,
    sniff: bool,
    zip_encoding: str,
    follow_links: bool,
    quiet: bool,
    **options: Any,
) -> ExitCode:
    """Detect text in PATH... on this machine: starts a private server and workers, and stops them again.

    PATH is an image, a folder (searched recursively), a glob, a zip or tar, a PDF, a multi-page TIFF, or - for a list
    on stdin. Interrupted? The same command again, or `ocr-producer resume OUT`, goes on.

    \b
    Examples:
      ocr-producer run scans/ -o out
      ocr-producer run 'inbox/*.pdf' photos.zip -o out --overlays
      ocr-producer run letters/ -o out --read && ocr-producer export out --format pdf
      find /archive -name '*.tif' -print0 | ocr-producer run - -o out --profile low
    """
    from detector.models import BEST_PUBLIC_MODEL, why_not_ours
    from producer.job.output_folder import JobRequest, OutputFolder
    from producer.local.job import run_local_job
    from worker.page_options import PageOptions

    request = JobRequest(
        job=job or default_job_name(),
        sources=absolute(sources),
        limit_side=limit_side or 0,
        profile=profile,
        model=model,
        runtime=runtime,
        workers=workers,
        overlays=overlays,
        report=report,
        options=PageOptions(**options),
        sniff=sniff,
        zip_encoding=zip_encoding,
        follow_links=follow_links,
    )
    folder = OutputFolder(out.absolute())
    typed = click.get_current_context().get_parameter_source("model") is ParameterSource.COMMANDLINE
    if model == BEST_PUBLIC_MODEL and not (quiet or typed or folder.exists()):
        say(why_not_ours(model))
    if folder.exists():
        request = _going_on(folder.request(), request, out)
        say(f"going on with job {request.job} in {out}")
    elif folder.manifest.exists() and folder.private.is_dir() and not folder.results.exists():
        with folder.held():
            folder.manifest.unlink()  # a run was killed just before it took this folder for its own
    elif folder.results.exists() or folder.manifest.exists():
        raise OtherJobError(f"{out} holds results of something else: choose another -o")
    return run_local_job(folder, request, quiet=quiet, update=update).exit_code


def _going_on(begun: JobRequest, given: JobRequest, out: Path) -> JobRequest:
    """The job in ``out``, with the options of this command line that may change between two runs of it.

    Options that were not typed stay as they were.

    Raises:
        OtherJobError: other inputs, or an option that all pages of a job share differs.
    """
    import msgspec

    # A list on stdin (`-`) cannot be compared: the job goes on with the one that was read into its manifest.
    if begun.sources != given.sources:
        raise OtherJobError(
            f"{out} holds the job {begun.job} of other inputs: choose another -o, or `ocr-producer resume {out}`"
        )
    source = click.get_current_context().get_parameter_source
    typed = {name for name in (*_FIXED, *_FREE) if source(name) is ParameterSource.COMMANDLINE}
    for name in typed - set(_FREE):
        was, now = (_asked(request, name) for request in (begun, given))
        if now != was:
            was, option = was or "its default", f"--{name.replace('_', '-')}"
            raise OtherJobError(
                f"{out} holds a job begun with {option} {was}: leave {option} out, or choose another -o"
            )
    return msgspec.structs.replace(begun, **{name: getattr(given, name) for name in _FREE if name in typed})


def _asked(request: JobRequest, name: str) -> object:
    """What a request says of one option of this command."""
    return getattr(request.options if name in PAGE_OPTIONS else request, name)
