"""``ocr-producer run``, and ``resume`` / ``retry`` of a local output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from producer.cli.options import (
    absolute,
    check_job_name,
    clear_errors,
    default_job_name,
    limit_side_option,
    out_option,
    quiet_option,
    sources_argument,
)
from producer.errors import EXIT_FAILED_IMAGES, EXIT_INTERRUPTED, EXIT_NOTHING, EXIT_USAGE, Stop


def _lasting(context: click.Context, parameter: click.Parameter, model: str | None) -> str:
    """The job's model, the environment's if none is given: resuming elsewhere must go on with the same one."""
    from detector.models import is_file_name
    from worker.settings import SettingsError, settings

    try:
        model = model or settings().model
    except SettingsError as error:
        raise Stop(str(error), EXIT_USAGE) from None
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
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes to start.")
@click.option("--model", callback=_lasting, help="A model's name, or an .onnx file.  [default: dbnet-resnet18]")
@click.option(
    "--runtime",
    type=click.Choice(["auto", "onnxruntime", "openvino", "torch"]),
    default="auto",
    show_default=True,
    help="Inference engine.",
)
@click.option("--overlays", is_flag=True, help="Draw the boxes of every image into OUT/overlays.")
@click.option("--report/--no-report", default=True, show_default=True, help="Write OUT/report.html.")
@quiet_option
@clear_errors
def run(sources: tuple[str, ...], out: Path, job: str | None, quiet: bool, **options: Any) -> None:
    """Detect text in PATH... on this machine: starts a private server and workers, and stops them again.

    PATH is an image, a folder (searched recursively), a glob, a zip or tar, a PDF, a multi-page TIFF, or - for a list
    on stdin. Interrupted? The same command again, or `ocr-producer resume OUT`, goes on.

    \b
    Examples:
      ocr-producer run scans/ -o out
      ocr-producer run 'inbox/*.pdf' photos.zip -o out --overlays
      find /archive -name '*.tif' -print0 | ocr-producer run - -o out --profile low
    """
    from producer.job.output_folder import JobRequest, OutputFolder

    folder = OutputFolder(out.absolute())
    named = absolute(sources)
    if folder.exists():
        request = folder.request()
        # A list on stdin was read into the manifest; it cannot be compared, only gone on with.
        if request.sources != named:
            raise Stop(
                f"{out} holds the job {request.job} of other inputs: choose another -o, or `ocr-producer resume {out}`",
                EXIT_USAGE,
            )
        request = _changed(request, out, {"job": job, **options})
        click.echo(f"going on with job {request.job} in {out}", err=True)
    else:
        if folder.results.exists() or folder.manifest.exists():
            raise Stop(f"{out} holds results of something else: choose another -o", EXIT_USAGE)
        limit_side = options.pop("limit_side") or 0
        request = JobRequest(job=job or default_job_name(), sources=named, limit_side=limit_side, **options)
    run_local_job(folder, request, quiet=quiet)


def _changed(request: Any, out: Path, options: dict[str, Any]) -> Any:
    """The job with what may change on the way as it is given now; only what was typed counts.

    Raises:
        Stop: an option that all pages of a job share differs.
    """
    import msgspec

    source = click.get_current_context().get_parameter_source
    typed = {name: value for name, value in options.items() if source(name) is ParameterSource.COMMANDLINE}
    for name in ("job", "limit_side", "profile", "model", "runtime"):
        if name in typed and typed[name] != getattr(request, name):
            was, option = getattr(request, name) or "its default", f"--{name.replace('_', '-')}"
            raise Stop(
                f"{out} holds a job begun with {option} {was}: leave {option} out, or choose another -o", EXIT_USAGE
            )
    anew = {name: typed[name] for name in ("workers", "overlays", "report") if name in typed}
    return msgspec.structs.replace(request, **anew)


def run_local_job(folder: Any, request: Any, *, quiet: bool, retry: bool = False) -> None:
    """Run or go on with a local job, show it, write its summary and leave with the right exit code."""
    from producer.job.interrupt import terminated_like_ctrl_c
    from producer.local.fleet import check_installed, check_model
    from producer.local.job import retry_failed, run_job
    from producer.local.summary import finish
    from producer.output.terminal import Progress

    check_installed()
    check_model(request)
    with folder.locked(), terminated_like_ctrl_c():
        folder.save_request(request)
        if retry and retry_failed(folder) == 0:
            raise Stop(f"no failed images in {folder.root}", EXIT_NOTHING)
        try:
            with Progress(quiet=quiet) as progress:
                ending = run_job(folder, request, progress)
            if not ending.interrupted:
                finish(folder, request, ending, quiet=quiet)
        except KeyboardInterrupt:  # while scanning or writing the report
            ending = None
    if ending is None or ending.interrupted:
        done = f"{ending.ok + ending.failed} of {ending.total} images are done and safe; " if ending else ""
        raise Stop(f"interrupted: {done}go on with `ocr-producer resume {folder.root}`", EXIT_INTERRUPTED)
    raise SystemExit(EXIT_FAILED_IMAGES if ending.failed else 0)


def local_folder(target: str) -> Any | None:
    """The output folder of a local job, None if the argument is none (then it names a job)."""
    from producer.job.output_folder import OutputFolder

    folder = OutputFolder(Path(target).absolute())
    return folder if folder.exists() else None
