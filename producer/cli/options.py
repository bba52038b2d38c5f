"""Options and arguments that several commands of `ocr-producer` share."""

from __future__ import annotations

import codecs
import time
from pathlib import Path

import click

from detector.public.models import DEFAULT_READER
from worker.messages import JOB_NAME, READER_NAME


def check_job_name(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Click callback for ``--job`` and JOB."""
    if value is not None and not JOB_NAME.match(value):
        raise click.BadParameter("use 1 to 64 of letters, digits, '.', '_', '-', beginning with a letter or digit")
    return value


def check_reader(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
    """Click callback for ``--read``: a name, since a file's path means nothing to other machines."""
    if value and not READER_NAME.match(value):
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
out_option = click.option(
    "-o", "--out", "out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Output folder."
)
sniff_option = click.option(
    "--sniff", is_flag=True, help="In folders, also take files of unknown or no suffix that begin like an image or PDF."
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
