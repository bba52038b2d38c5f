"""``ocr-producer``: the commands, and those that only need files."""

from __future__ import annotations

from pathlib import Path

import click

from producer.cli import fleet as cli_fleet
from producer.cli import jobs as cli_jobs
from producer.cli import run as cli_run
from producer.cli.options import clear_errors
from producer.errors import EXIT_CODES, EXIT_NOTHING, Stop

folder_argument = click.argument("out", type=click.Path(path_type=Path, file_okay=False))


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
def main() -> None:
    """Find the text in a pile of images, through a queue that never loses one.

    \b
    On this machine alone:      ocr-producer run scans/ -o out
    With workers elsewhere:     ocr-producer enqueue scans/ --job NAME --watch
    """


for command in (
    cli_run.run,
    cli_fleet.enqueue,
    cli_jobs.status,
    cli_jobs.jobs,
    cli_jobs.watch,
    cli_fleet.collect,
    cli_fleet.resume,
    cli_fleet.retry,
    cli_jobs.cancel,
    cli_jobs.forget,
):
    main.add_command(command)


def _results_of(out: Path) -> Path:
    results = out / "results.jsonl"
    if not results.is_file():
        raise Stop(f"no results.jsonl in {out}: is it the output folder of `run` or `collect`?", EXIT_NOTHING)
    return results


@main.command()
@folder_argument
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["icdar", "coco", "labelstudio", "pagexml", "csv"]),
    required=True,
    help="What to write.",
)
@click.option("--to", type=click.Path(path_type=Path), help="Where to; default: a name inside OUT.")
@clear_errors
def export(out: Path, format_name: str, to: Path | None) -> None:
    """Convert OUT/results.jsonl to another program's format.

    \b
    Example:
      ocr-producer export out --format pagexml
    """
    from producer.output.formats import export_results

    _results_of(out)
    click.echo(str(export_results(out, format_name, to)))


@main.command()
@folder_argument
@clear_errors
def report(out: Path) -> None:
    """Write OUT/report.html, a gallery in one file, from OUT/results.jsonl.

    \b
    Example:
      ocr-producer report out
    """
    from producer.output.report import write_report

    _results_of(out)
    click.echo(str(write_report(out)))
