"""`ocr-detector evaluate`: boxes against ground truth, at several sizes and runtimes in one table."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import click

from detector.atomic import atomic_write
from detector.cli.options import LONGEST_STEM, RUNTIME_HELP, detector_options, thresholds_of
from detector.cli.own_output import refuse_others_link
from detector.cli.say import say, tell, tell_json
from detector.errors import show
from detector.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from detector.evaluation.annotations import Sample
    from detector.evaluation.evaluate import ImageScore, Summary


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder with SPLIT_images and SPLIT_gts.")
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="val", show_default=True)
@click.option("--limit-side", "limits", type=click.IntRange(32, 8192), multiple=True, help="Several give several rows.")
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    is_eager=True,
    default=["auto"],
    envvar="OCRFLEET_RUNTIME",
    show_default=True,
    help=f"{RUNTIME_HELP} Several give several rows.",
)
@click.option("--results", type=click.Path(path_type=Path), help="Score this results.jsonl; run nothing.")
@click.option("--worst", type=click.IntRange(1), help="Draw the N worst images of each row into -o.")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for --worst.")
@click.option("--json", "as_json", is_flag=True, help="Rows as JSON lines.")
@detector_options
def evaluate(
    data: Path,
    split: str,
    limits: tuple[int, ...],
    runtimes: tuple[str, ...],
    results: Path | None,
    worst: int | None,
    output: Path | None,
    as_json: bool,
    model: str,
    threads: int | None,
    tiled: bool | None,
    **thresholds: float | None,
) -> int:
    """Precision, recall and hmean against ground truth (ICDAR 2015 protocol, IoU 0.5, "###" ignored).

    Each row runs in a process of its own; "peak MB" is the most that process ever held. Behind it stands where the
    hmean of other such images would lie 95 times in 100 (bootstrap over images), and, from the second row on, the gain
    over the first row with its interval (the same images drawn for both): a gain whose interval holds 0 may be luck.

    \b
    Examples:
      ocr-detector evaluate --data receipts --limit-side 640 --limit-side 1280
      ocr-detector evaluate --data receipts --runtime onnxruntime --runtime openvino --json
      ocr-detector evaluate --data receipts --results out/results.jsonl
      ocr-detector evaluate --data receipts --worst 10 -o worst/     (red = found, green = ground truth)
    """
    from detector.evaluation import evaluate as evaluation
    from detector.evaluation.annotations import read_split
    from detector.evaluation.isolated_run import IsolatedRun

    if (worst is None) != (output is None):
        raise click.UsageError("--worst N and -o FOLDER go together")
    if output:
        refuse_others_link(output)
    if results and limits:
        raise click.UsageError("--results scores finished boxes; --limit-side does not apply")

    def rows(samples: Sequence[Sample]) -> Iterator[tuple[Summary, list[ImageScore]]]:
        keep = worst or 0
        if results:
            tally = evaluation.Tally(keep)
            for score in evaluation.score_records(evaluation.read_results(results), samples):
                tally.add(score)
            yield tally.summary("results"), tally.worst
            return
        runs = [
            IsolatedRun(
                model=model,
                runtime=runtime,
                threads=threads or 1,
                limit_side=limit,
                tiled=bool(tiled),
                thresholds=thresholds_of(model, runtime, thresholds),
            )
            for runtime, limit in product(runtimes, limits or (640,))
        ]
        for settings in runs:
            yield evaluation.score_isolated(settings, samples, str(settings.limit_side), keep)

    samples = read_split(data, split)
    if not as_json:
        tell(evaluation.HEADING)
    several = len(runtimes) * len(limits or (0,)) > 1
    first: Summary | None = None
    for row, found in rows(samples):
        summary = evaluation.compare(first, row) if first else row
        first = first or row
        if as_json:
            tell_json(summary.plain())
        else:
            tell(evaluation.table_line(summary))
        if output:
            _draw_worst(found, output / f"{summary.runtime}-{summary.label}" if several else output)
    return ExitCode.OK


def _draw_worst(scores: list[ImageScore], folder: Path) -> None:
    """Pictures of the worst images, and worst.csv that lists them."""
    from detector.overlay import write_comparison

    lines: list[tuple[object, ...]] = []
    for rank, score in enumerate(scores, start=1):
        counts, sample = score.counts, score.sample
        regions = [(region.points, region.ignore) for region in sample.regions()]
        picture = f"{rank:03}-{counts.hmean:.2f}-{sample.image.stem[:LONGEST_STEM]}.jpg"
        write_comparison(sample.image, score.boxes, regions, folder / picture)
        missed, false = counts.gt - counts.matched, counts.det - counts.matched
        lines.append((rank, show(sample.image), f"{counts.hmean:.4f}", counts.gt, missed, false, show(picture)))
    with atomic_write(folder / "worst.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("rank", "image", "hmean", "gt", "missed", "false", "picture"))
        writer.writerows(lines)
    say(f"{len(scores)} pictures in {show(folder)}: red = found, green = ground truth, grey = do not care")
