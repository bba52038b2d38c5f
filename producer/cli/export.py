"""``ocr-producer export`` and ``report``: other files from results.jsonl."""

from __future__ import annotations

from pathlib import Path

import click

from detector.cli.say import say, tell
from detector.errors import show
from detector.exit_codes import ExitCode
from producer.errors import NothingToDoError

FORMATS = (
    "icdar", "coco", "labelstudio", "pagexml", "csv", "txt", "hocr", "alto", "pdf", "crops", "yolo-obb",
)  # fmt: skip

folder_argument = click.argument("out", type=click.Path(path_type=Path, file_okay=False))


def _check_results(out: Path) -> None:
    if not (out / "results.jsonl").is_file():
        raise NothingToDoError(f"no results.jsonl in {out}: is it the output folder of `run` or `collect`?")


@click.command()
@folder_argument
@click.option(
    "--format",
    "format_name",
    type=click.Choice(FORMATS),
    required=True,
    help="What to write.",
)
@click.option("--to", type=click.Path(path_type=Path), help="Where to; default: a name inside OUT.")
@click.option(
    "--page-images",
    is_flag=True,
    help="Write pages of PDFs and TIFFs as JPEGs into OUT/page-images and name these: annotation tools open no PDF.",
)
def export(out: Path, format_name: str, to: Path | None, page_images: bool) -> ExitCode:
    """Convert OUT/results.jsonl to another program's format.

    \b
    Example:
      ocr-producer export out --format pagexml
      ocr-producer export out --format pdf --to searchable
      ocr-producer export out --format labelstudio --page-images

    Text (txt, hocr, alto, pdf) is in the results of jobs that were run with --read. pdf needs ocrfleet[pdf].
    The exit code is 1 where something had to be left out; it is named.
    """
    from producer.output.formats import export_results

    _check_results(out)

    told = False

    def leave_out(line: str) -> None:
        nonlocal told
        told = True
        say(line)

    tell(show(export_results(out, format_name, to, leave_out, page_images=page_images)))
    return ExitCode.FAILED if told else ExitCode.OK


@click.command()
@folder_argument
def report(out: Path) -> None:
    """Write OUT/report.html, a gallery in one file, from OUT/results.jsonl.

    \b
    Example:
      ocr-producer report out
    """
    from producer.output.report import write_report

    _check_results(out)
    tell(show(write_report(out)))
