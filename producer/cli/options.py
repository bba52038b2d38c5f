"""Options and arguments that several commands of `ocr-producer` share."""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from detector.public.models import DEFAULT_READER
from detector.thresholds import SHAPES
from worker.messages import JOB_NAME
from worker.page_options import READER_NAME


def check_job_name(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Click callback for ``--job`` and JOB."""
    if value is not None and not JOB_NAME.match(value):
        raise click.BadParameter("use 1 to 64 of letters, digits, '.', '_', '-', beginning with a letter or digit")
    return value


def check_reader(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
    """Click callback for ``--read``: a name, since a file's path means nothing to other machines."""
    if value and not re.match(READER_NAME, value):
        raise click.BadParameter("give a recogniser's name; your own NAME.onnx goes into a folder of OCRFLEET_MODELS")
    return value or ""


def default_job_name() -> str:
    """A name that sorts by time."""
    return time.strftime("job-%Y%m%d-%H%M%S")


def absolute(sources: tuple[str, ...]) -> list[str]:
    """Sources as absolute paths, so that resuming from another folder finds them; ``-`` and addresses stay."""
    return [source if source == "-" or "://" in source else str(Path(source).absolute()) for source in sources]


sources_argument = click.argument("sources", metavar="PATH...", nargs=-1, required=True)
job_argument = click.argument("job", callback=check_job_name)
quiet_option = click.option("--quiet", "-q", is_flag=True, help="No progress; only errors and the summary's totals.")
limit_side_option = click.option(
    "--limit-side",
    type=click.IntRange(32, 8192),
    help="Long side the network sees at most, pixels. Images only shrink.",
)

read_option = click.option(
    "--read",
    is_flag=False,
    flag_value=DEFAULT_READER,
    callback=check_reader,
    metavar="[NAME]",
    help=f"Read the text too, with this recogniser. [without NAME: {DEFAULT_READER}]",
)


def page_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that travel with every page (`worker.page_options.PageOptions`)."""
    for option in (
        read_option,
        click.option(
            "--shape",
            type=click.Choice(SHAPES),
            help="Of the boxes: tilted rectangles, those with an outline that follows curved lettering, or upright "
            "rectangles.  [default: quad]",
        ),
        click.option(
            "--memory-limit-mb",
            type=click.IntRange(64, 1 << 20),
            help="Of one worker process, MiB; pages that need more are opened smaller or refused. Workers elsewhere "
            "take it where it is less than their own.",
        ),
        click.option(
            "--tiled/--untiled", default=None, help="Large pages in overlapping tiles.  [default: as the profile]"
        ),
        click.option("--binarize", type=click.FloatRange(0.01, 0.99), help="Pixels from this probability on are text."),
        click.option("--unclip-ratio", type=click.FloatRange(0, 10), help="How much the found regions grow."),
        click.option(
            "--box-threshold",
            type=click.FloatRange(0, 1),
            help="Drop boxes with a lower score.  [default of all three: on the model's card]",
        ),
    ):
        function = option(function)
    return function


update_option = click.option(
    "--update", is_flag=True, help="Add images that are new in PATH... since the job began. Without it: say how many."
)
overlays_option = click.option("--overlays", is_flag=True, help="Draw the boxes of every image into OUT/overlays.")
report_option = click.option("--report/--no-report", default=True, show_default=True, help="Write OUT/report.html.")
out_option = click.option(
    "-o", "--out", "out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Output folder."
)
sniff_option = click.option(
    "--sniff", is_flag=True, help="In folders, also take files of unknown or no suffix that begin like an image or PDF."
)
follow_links_option = click.option(
    "--follow-links", is_flag=True, help="In folders, also take links that lead out of them."
)


def _check_encoding(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return codecs.lookup(value).name if value else ""
    except LookupError:
        raise click.BadParameter(f"no such encoding: {value}; try utf-8, gb18030, cp932, cp1252 or cp437") from None


zip_encoding_option = click.option(
    "--zip-encoding",
    default="",
    metavar="NAME",
    callback=_check_encoding,
    help="Of names in zips that do not say theirs, such as gb18030 or cp932. Default: guessed.",
)
