"""``ocr-detector quantize``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from detector.atomic import atomic_write
from detector.cli.options import NewFile
from detector.cli.say import say, tell
from detector.cli.train import FILE, FOLDER
from detector.convert.interrupts import load_library
from detector.errors import is_file, show
from detector.exit_codes import ExitCode

if TYPE_CHECKING:
    from detector.evaluation.evaluate import Summary

NOT_SCORED = "– (needs --data with a val split, and a --dynamic export)"


@click.command()
@click.argument("model", type=FILE)
@click.option("--images", type=FOLDER, help="Calibration images [default: the training images of --data].")
@click.option(
    "--data",
    type=FOLDER,
    multiple=True,
    help="ICDAR-style folder to compare hmean before and after on (its val split); several may be given.",
)
@click.option("--limit-side", type=click.IntRange(32, 8192), default=640, show_default=True)
@click.option("--dynamic", is_flag=True, help="quantize_dynamic: changes fully connected layers only.")
@click.option("--force", is_flag=True, help="Keep the result though it loses more than 1.5 points.")
@click.option("-o", "--output", type=NewFile(), required=True, help="The int8 .onnx file.")
def quantize(
    model: Path,
    images: Path | None,
    data: tuple[Path, ...],
    limit_side: int,
    dynamic: bool,
    force: bool,
    output: Path,
) -> int:
    """fp32 ONNX -> int8 ONNX, with a table of what it gains and costs.

    \b
    Examples:
      ocr-detector quantize my.fp32.onnx --data receipts -o my.int8.onnx
      ocr-detector quantize my.fp32.onnx --data receipts --data photos -o my.int8.onnx
      ocr-detector quantize my.fp32.onnx --images some_pages -o my.int8.onnx

    With --data the result is refused if it loses more than 1.5 points of hmean on one of them, whichever pages of that
    kind are drawn (95 %): of a few pages alone a loss may be chance.
    """
    from detector.convert import quantize as quantizing
    from detector.convert.benchmark import measure
    from detector.convert.export import pass_card_on

    if not model.is_file():
        say(f"{show(model)}: no such file; give an fp32 .onnx file (ocr-detector export makes one)")
        return ExitCode.NOTHING
    load_library("onnxruntime")
    quantizing.check_model(model)
    if dynamic:
        return _quantize_dynamic(model, output)
    folders = [images] if images else [folder / "train_images" for folder in data]
    if not folders:
        raise click.UsageError("give --images FOLDER or --data FOLDER for calibration")
    sets = [_files_of(folder) for folder in folders]
    if not all(sets):
        return ExitCode.NOTHING
    # In the system's folder: beside the file, who may write there had another folder of that name removed at the end.
    with tempfile.TemporaryDirectory() as unfinished:
        attempt = Path(unfinished) / output.name  # what was there before stays until this one is done
        pass_card_on(model, attempt)
        chosen = quantizing.spread_evenly(sets, quantizing.CALIBRATION_IMAGES)
        quantizing.quantize_static(model, attempt, chosen, limit_side=limit_side)
        losses = [] if quantizing.fixed_size(model) else list(_losses(model, attempt, data, limit_side))
        names = "  ".join(f"{loss.name} @{limit_side}" for loss in losses)
        tell(f"{'':>6}  {'MB':>7}  {'ms':>7}  {'peak MB':>7}  hmean {names or f'@{limit_side}'}")
        for place, (word, path) in enumerate((("before", model), ("after", attempt))):
            cost = measure(path)
            scores = "  ".join(f"{loss.hmeans[place]:.4f}" for loss in losses) or NOT_SCORED
            tell(f"{word:>6}  {cost.megabytes:7.1f}  {cost.milliseconds:7.1f}  {cost.peak_mb:7.0f}  {scores}")
        for loss in losses:
            tell(loss.in_words())
        worst = [loss for loss in losses if loss.least() > quantizing.MOST_LOST]
        if worst and not force:
            most = max(worst, key=Loss.least)
            say(f"{output}: not written, it loses {most.points():.1f} points on {most.name}; --force keeps it")
            return ExitCode.FAILED
        with atomic_write(output, sync=True) as part:
            shutil.copyfile(attempt, part)
        pass_card_on(model, output)
    return ExitCode.OK


class Loss(NamedTuple):
    """What int8 costs on one set of pages.

    Attributes:
        name: of the set.
        hmeans: before and after.
        gain: in hmean (a loss is negative), and the ends of its 95 % interval.
    """

    name: str
    hmeans: tuple[float, float]
    gain: tuple[float, float, float]

    def least(self) -> float:
        """So much is lost on other pages of the kind too, 97 times in 100; negative where it may be a gain."""
        return -self.gain[2]

    def points(self) -> float:
        """What was lost on these pages, in points."""
        return -100 * self.gain[0]

    def in_words(self) -> str:
        """One line."""
        gain, low, high = (100 * value for value in self.gain)
        return f"{self.name}: {gain:+.1f} points; on other pages of the kind {low:+.1f} to {high:+.1f} (95 %)"


def _losses(before: Path, after: Path, data: Sequence[Path], limit_side: int) -> Iterator[Loss]:
    from detector.convert.benchmark import score
    from detector.evaluation.annotations import held_out_split
    from detector.evaluation.evaluate import compare

    for folder in data:
        if split := held_out_split(folder):
            first: Summary = score(before, folder, split, limit_side)
            second = compare(first, score(after, folder, split, limit_side))
            assert second.gain is not None
            yield Loss(f"{folder.name} {split}", (first.counts.hmean, second.counts.hmean), second.gain)


def _files_of(folder: Path) -> list[Path]:
    """The files in it; says so if there are none."""
    files = sorted(file for file in folder.iterdir() if is_file(file)) if folder.is_dir() else []
    if not files:
        say(f"{show(folder)}: {'no images in it' if folder.is_dir() else 'no such folder'}; give some to calibrate")
    return files


def _quantize_dynamic(model: Path, output: Path) -> int:
    from detector.convert import quantize as quantizing
    from detector.convert.export import pass_card_on

    with atomic_write(output, sync=True) as unfinished:
        changed = quantizing.quantize_dynamic(model, unfinished)
    pass_card_on(model, output)
    tell(
        f"quantize_dynamic changed {changed} nodes"
        + (
            ": it works on fully connected layers, and a DBNet has none; the file holds the same fp32 network. "
            "Leave --dynamic out for the static int8 that is smaller and faster."
            if not changed
            else ""
        )
    )
    return ExitCode.OK
