"""What several commands of `ocr-detector` share: the detector's options, one line to the user."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from detector.cli.say import say
from detector.errors import show
from detector.images.sniff import SNIFFED_BYTES, kind_of, known_but_unread
from detector.models import AUTO_MODEL, DEFAULT_MODEL, choose_model, why_not_ours

if TYPE_CHECKING:
    from detector.thresholds import Thresholds

RUNTIME_HELP = "auto, onnxruntime, openvino or torch (the fp16 weights, in bf16 or fp16 where the machine has it)."

LONGEST_STEM = 60
"""Characters, of a picture's name in that of a file made of it: file systems take 255 bytes, with suffix and number."""


class NewFile(click.Path):
    """A file to write: that its folder is there and can be written is known before the work begins, not after."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path, if a file can be written there."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not path.parent.is_dir():
            self.fail(f"{show(path)}: there is no folder {show(path.parent)}; make it first", param, ctx)
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            self.fail(f"{show(path)}: cannot be written here; choose another folder", param, ctx)
        if _is_a_source(path):
            self.fail(f"{show(path)}: there is a picture or an archive; name a new file", param, ctx)
        return path


def _is_a_source(path: Path) -> bool:
    """What no command of ours writes: by `*.jpg` a file named `-oholiday.jpg` had results put in another's place."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(SNIFFED_BYTES)
    except OSError:
        return False
    return not start.startswith(b"{") and bool(kind_of(start, path.name) or known_but_unread(start))


def refuse_beside_resume(resume: Path | None) -> None:
    """A resumed run keeps its own settings: what is given beside --resume would be ignored in silence.

    Raises:
        click.UsageError: naming the options to leave out.
    """
    context = click.get_current_context()
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name
        and parameter.name != "resume"
        and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]
    if resume is not None and given:
        raise click.UsageError(f"--resume goes on with the run's own settings; leave out {', '.join(given)}")


def _chosen(context: click.Context, parameter: click.Parameter, model: str) -> str:
    """The model that "auto" stands for; says so where it is not our own."""
    # --runtime is eager, so it is known here: one word, or several of `evaluate`.
    runtimes = context.params.get("runtime") or context.params.get("runtimes") or ()
    chosen = choose_model(model, "torch" if "torch" in runtimes else "auto")
    if model == AUTO_MODEL and chosen != DEFAULT_MODEL:
        say(why_not_ours(chosen))
    return chosen


model_option = click.option(
    "--model",
    default=AUTO_MODEL,
    envvar="OCRFLEET_MODEL",
    show_default=True,
    callback=_chosen,
    help=f"A model's name, or an .onnx file. auto: the best that was fetched, else {DEFAULT_MODEL}.",
)


def detector_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Which model, and how it runs; all but the runtime."""
    for option in (
        model_option,
        click.option("--threads", type=click.IntRange(1, 256), envvar="OCRFLEET_THREADS", help="Of one inference."),
        click.option("--tiled/--untiled", default=None, help="Large pages in overlapping tiles of 672x672 at most."),
        click.option("--binarize", type=click.FloatRange(0.01, 0.99), help="Pixels from this on are text."),
        click.option("--box-threshold", type=click.FloatRange(0, 1), help="Drop boxes with a lower score."),
        click.option("--unclip-ratio", type=click.FloatRange(0, 10), help="How much the found regions grow."),
    ):
        function = option(function)
    return function


def thresholds_of(model: str, runtime: str, thresholds: Mapping[str, float | None]) -> Thresholds | None:
    """The thresholds of a model's card with those replaced that were given; None if none was.

    Raises:
        ModelError: no such model or runtime.
    """
    from detector.models import load_card
    from detector.runtimes import file_kind

    given = {name: value for name, value in thresholds.items() if value is not None}
    return replace(load_card(model, file_kind(runtime)).thresholds, **given) if given else None
