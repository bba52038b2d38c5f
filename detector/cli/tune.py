"""`ocr-detector tune`: which runtime is the fastest on this machine, within its memory?"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from detector.cli.options import model_option
from detector.cli.say import say, tell
from detector.errors import ProfileError, show
from detector.exit_codes import ExitCode
from detector.machine import read_machine
from detector.profile import choose_profile


@click.command()
@model_option
@click.option("--profile", default="auto", envvar="OCRFLEET_PROFILE", help="auto, low, standard or accurate.")
@click.option(
    "--limit-side",
    type=click.IntRange(32, 8192),
    envvar="OCRFLEET_LIMIT_SIDE",
    help="Longest side of the pages, pixels; the profile's if not given.",
)
@click.option(
    "--memory-limit-mb",
    type=click.IntRange(1),
    envvar="OCRFLEET_MEMORY_LIMIT_MB",
    help="Of one process; what needs more is not chosen. The profile's if not given.",
)
@click.option("--seconds", type=click.FloatRange(0.01, 600), default=10, show_default=True, help="For each candidate.")
@click.option("--threads", type=click.IntRange(1, 256), multiple=True, help="Try these numbers of threads only.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
def tune(
    model: str,
    profile: str,
    limit_side: int | None,
    memory_limit_mb: int | None,
    seconds: float,
    threads: tuple[int, ...],
    output: Path | None,
) -> int:
    """Times the runtimes that are installed and writes down the best; `--runtime auto` then uses it.

    Run it on a quiet machine, as the user (and with the settings) that will detect. The result counts for this model,
    size, CPU and these versions; when one changes, "auto" goes back to its default and says so.

    \b
    Examples:
      ocr-detector tune
      ocr-detector tune --limit-side 1280 --memory-limit-mb 512
      ocr-detector tune -o /shared/tune.json     (then set OCRFLEET_TUNE_FILE=/shared/tune.json)
    """
    from detector.evaluation import tune
    from detector.images.sizes import TILE
    from detector.models import load_card
    from detector.runtimes import tuned

    try:
        settings, _ = choose_profile(profile)
    except ProfileError as error:
        raise click.BadParameter(str(error), param_hint="--profile") from None
    # With tiles the network sees no more than a tile at a time.
    side = limit_side or settings.limit_side
    side = min(side, TILE) if settings.tiled else side
    limit_mb = memory_limit_mb or settings.memory_limit_mb
    card = load_card(model)
    path = output or tuned.tuning_file()
    try:
        tuned.check_writable(path)
    except OSError as error:
        say(
            f"{show(path)}: cannot be written ({error.strerror}); give -o FILE in a folder that can, "
            f"and set {tuned.FILE_VARIABLE}=FILE where images are detected"
        )
        return ExitCode.USAGE
    cores = read_machine().cores
    if (load := os.getloadavg()[0]) > cores / 2:
        say(f"note: this machine is busy (load {load:.1f} on {cores:g} cores); the times may mislead")
    tell(tune.HEADING)
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        counts = sorted(set(threads)) or tune.thread_counts(cores)
        for candidate in tune.measure_all(model, side, limit_mb, seconds, counts, Path(folder)):
            tell(tune.table_line(candidate))
            measured.append(candidate)
    alone = tuned.best(measured)
    if alone is None:
        if not any(candidate.note.startswith(tune.TOO_LARGE) for candidate in measured):
            notes = (candidate.note for candidate in measured if candidate.note)
            say(f"nothing ran: {next(notes, 'no runtime is installed')}")
            return ExitCode.USAGE
        say(f"nothing ran within {limit_mb} MiB at {side} pixels: raise --memory-limit-mb or lower --limit-side")
        return ExitCode.FAILED
    tuned.write_tuning(path, tuned.Tuning(card.sha256, side, tuned.machine_facts(), measured))
    tell(f"one process alone: {alone.runtime}, {alone.threads} thread{'s' if alone.threads > 1 else ''}")
    if worker := tuned.best(measured, threads=1):
        tell(f"workers of 1 thread: {worker.runtime}")
    tell(f"written to {show(path)}: --runtime auto uses it for pages of {side} pixels")
    return ExitCode.OK
