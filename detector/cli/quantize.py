"""``ocr-detector quantize``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from detector.atomic import atomic_write
from detector.cli.options import NewFile, say
from detector.cli.train import FILE, FOLDER
from detector.errors import show
from detector.exit_codes import ExitCode


@click.command()
@click.argument("model", type=FILE)
@click.option("--images", type=FOLDER, help="Calibration images [default: the training images of --data].")
@click.option("--data", type=FOLDER, help="ICDAR-style folder to compare hmean before and after on (its val split).")
@click.option("--limit-side", type=click.IntRange(32, 8192), default=640, show_default=True)
@click.option("--dynamic", is_flag=True, help="quantize_dynamic: changes fully connected layers only.")
@click.option("--force", is_flag=True, help="Keep the result though it loses more than 1.5 points.")
@click.option("-o", "--output", type=NewFile(), required=True, help="The int8 .onnx file.")
def quantize(
    model: Path, images: Path | None, data: Path | None, limit_side: int, dynamic: bool, force: bool, output: Path
) -> int:
    """fp32 ONNX -> int8 ONNX, with a table of what it gains and costs.

    \b
    Examples:
      ocr-detector quantize my.fp32.onnx --data receipts -o my.int8.onnx
      ocr-detector quantize my.fp32.onnx --images some_pages -o my.int8.onnx

    With --data the result is refused if it loses more than 1.5 points of hmean.
    """
    from detector.convert import quantize as quantizing
    from detector.convert.benchmark import hmean, measure
    from detector.convert.export import pass_card_on
    from detector.evaluation.annotations import held_out_split

    if not model.is_file():
        say(f"{show(model)}: no such file; give an fp32 .onnx file (ocr-detector export makes one)")
        return ExitCode.NOTHING
    quantizing.check_model(model)
    if dynamic:
        with atomic_write(output, sync=True) as unfinished:
            changed = quantizing.quantize_dynamic(model, unfinished)
        pass_card_on(model, output)
        click.echo(
            f"quantize_dynamic changed {changed} nodes"
            + (
                ": it works on fully connected layers, and a DBNet has none; the file holds the same fp32 network. "
                "Leave --dynamic out for the static int8 that is smaller and faster."
                if not changed
                else ""
            )
        )
        return ExitCode.OK
    folder = images or (data / "train_images" if data else None)
    if folder is None:
        raise click.UsageError("give --images FOLDER or --data FOLDER for calibration")
    files = sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
    if not files:
        say(f"{show(folder)}: {'no images in it' if folder.is_dir() else 'no such folder'}; give some to calibrate")
        return ExitCode.NOTHING
    split = (data and held_out_split(data)) or ""
    if quantizing.fixed_size(model):
        split = ""  # pages have all sizes
    with tempfile.TemporaryDirectory(dir=output.parent) as unfinished:
        attempt = Path(unfinished) / output.name  # what was there before stays until this one is attempt
        pass_card_on(model, attempt)
        quantizing.quantize_static(
            model, attempt, quantizing.spread(files, quantizing.CALIBRATION_IMAGES), limit_side=limit_side
        )
        scores = []
        click.echo(f"{'':>6}  {'MB':>7}  {'ms':>7}  {'peak MB':>7}  hmean {split} @{limit_side}")
        for name, path in (("before", model), ("after", attempt)):
            cost = measure(path)
            if data and split:
                scores.append(hmean(path, data, split, limit_side))
            score = f"{scores[-1]:.4f}" if scores else "– (needs --data with a val split, and a --dynamic export)"
            click.echo(f"{name:>6}  {cost.megabytes:7.1f}  {cost.milliseconds:7.1f}  {cost.peak_mb:7.0f}  {score}")
        lost = scores[0] - scores[1] if scores else 0.0
        if lost > quantizing.MOST_LOST and not force:
            say(f"{output}: not written, it loses {100 * lost:.1f} points; --force keeps it")
            return ExitCode.FAILED
        attempt.replace(output)
        pass_card_on(model, output)
    return ExitCode.OK
