"""`ocr-detector train`, `export`, `quantize`: the workshop's commands. Heavy imports happen inside the commands."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from detector.atomic import whole_file
from detector.cli.options import (
    FAILED,
    INTERRUPTED,
    NOTHING_TO_DO,
    OK,
    USAGE,
    NewFile,
    one_line_errors,
    refuse_beside_resume,
    say,
)
from detector.errors import ModelError, show
from detector.models import DEFAULT_MODEL, WEIGHTS_FOLDER, list_models, load_card, weights_path

_ANEW = {"none": "", "imagenet": "imagenet"}
MOST_PROBLEMS = 50  # of a data folder that are listed
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


def fine_tunable(model: str) -> Path:
    """The weights for training and export: a shipped model's fp16 file, a .safetensors file, a checkpoint."""
    if model in list_models() or (WEIGHTS_FOLDER / f"{model}.fp16.safetensors").is_file():
        return weights_path(model, "fp16_safetensors")
    path = Path(model)
    if not path.is_file():
        raise ModelError(f"{model}: neither a shipped model ({', '.join(list_models()) or 'none'}) nor a file")
    if path.suffix == ".onnx":
        raise ModelError(f"{model}: an ONNX file cannot be trained or exported; give a .safetensors file or best.pt")
    return path


def can_be_trained_on(data: Path) -> bool:
    """Whether nothing is wrong with a data folder; says what is."""
    from detector.training.fit import check_data

    problems = check_data(data)
    for problem in problems[:MOST_PROBLEMS]:
        say(problem)
    if len(problems) > 1:
        say(f"{len(problems)} problems in {data}; nothing was trained")
    return not problems


def _first_weights(backbone: str | None, fpn_width: int | None) -> str:
    """What --init means if it is not given: the best start there is for this backbone."""
    if fpn_width:
        return "none" if backbone in (None, "resnet18") else "imagenet"
    if backbone in (None, "resnet18"):
        return DEFAULT_MODEL
    shipped = (name for name in list_models(WEIGHTS_FOLDER) if load_card(name).details.get("backbone") == backbone)
    return next(shipped, "imagenet")


@click.command()
@click.option("--data", type=FOLDER, help="ICDAR-style folder: train_list.txt, train_images/, train_gts/ (and val_*).")
@click.option(
    "--init",
    help="A shipped model, a weights file, 'imagenet' or 'none'.  [default: the shipped model of the backbone]",
)
@click.option("--backbone", type=click.Choice(["resnet18", "mobilenet_v3_small", "shufflenet_v2_x1_0"]))
@click.option(
    "--fpn-width", type=click.IntRange(8, 512), help="Of the feature pyramid, if it starts anew; 4, 8, 12, ..."
)
@click.option("--epochs", type=click.IntRange(1), default=5, show_default=True)
@click.option("--batch-size", type=click.IntRange(1, 256), default=8, show_default=True)
@click.option("--lr", type=click.FloatRange(0, 1, min_open=True), default=0.007, show_default=True)
@click.option("--crop", type=click.IntRange(64, 2048), default=640, show_default=True, help="A multiple of 32.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--amp", type=click.Choice(["auto", "off"]), default="auto", show_default=True, help="Half precision.")
@click.option("--distill", type=FILE, help="Teacher: a DB-family .onnx; doubts text that only it sees.")
@click.option("--synthetic", type=click.IntRange(0), default=0, show_default=True, help="Rendered pages to mix in.")
@click.option(
    "--limit-side",
    type=click.IntRange(32, 8192),
    default=1280,
    show_default=True,
    help="At validation; training crops are scaled around it.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("-o", "--output", type=FOLDER, help="Folder of the run: checkpoints, metrics.csv, curve.png.")
@click.option("--resume", type=FOLDER, help="Go on with this run exactly where it stopped.")
@click.option("--check-only", is_flag=True, help="Only check the data folder: file:line of everything wrong.")
@one_line_errors
def train(
    data: Path | None,
    init: str | None,
    backbone: str | None,
    fpn_width: int | None,
    epochs: int,
    batch_size: int,
    lr: float,
    crop: int,
    device: str,
    amp: str,
    distill: Path | None,
    synthetic: int,
    limit_side: int,
    seed: int,
    output: Path | None,
    resume: Path | None,
    check_only: bool,
) -> int:
    """Fine-tunes a detector on your own images, validating every epoch.

    \b
    Examples:
      ocr-detector train --data receipts --check-only
      ocr-detector train --data receipts -o run
      ocr-detector train --data signs --backbone mobilenet_v3_small --epochs 30 -o run
      ocr-detector train --data signs --distill ppocr_det.onnx --synthetic 500 -o run
      ocr-detector train --resume run

    RUN/best.pt is the checkpoint with the best validation hmean: `ocr-detector export RUN/best.pt`.
    """
    import cv2

    from detector.training import fit as fitting

    refuse_beside_resume(resume)
    cv2.setNumThreads(1)
    if resume is not None:
        saved = resume / fitting.CONFIG
        if not saved.is_file():
            say(f"{saved}: not found; --resume wants the folder of an earlier run")
            return NOTHING_TO_DO
        try:
            options = fitting.FitOptions(**json.loads(saved.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            say(f"{saved}: not the settings of a run ({error}); train anew with -o")
            return USAGE
        data = Path(options.data)
    if data is None:
        raise click.UsageError("give --data FOLDER (or --resume RUN)")
    run = resume or output
    if run is None and not check_only:
        raise click.UsageError("give -o RUN, the folder for checkpoints and metrics")
    if crop % 32:
        raise click.UsageError(f"--crop {crop} is not a multiple of 32; the nearest is {round(crop / 32) * 32}")
    if fpn_width and fpn_width % 4:
        raise click.UsageError(f"--fpn-width {fpn_width} is not a multiple of 4; try {fpn_width // 4 * 4}")
    if not can_be_trained_on(data):
        return NOTHING_TO_DO
    if check_only or run is None:
        click.echo(f"{data}: nothing wrong; {fitting.describe_data(data)}")
        return OK
    try:
        if resume is None:
            if (run / fitting.LAST).is_file():
                raise click.UsageError(
                    f"{run} already holds a run: --resume {run} goes on with it; else choose another -o"
                )
            start = init or _first_weights(backbone, fpn_width)
            if fpn_width and start not in _ANEW:
                raise click.UsageError("--fpn-width is for --init none or imagenet; weights have their own width")
            chosen = fitting.choose_device(device)
            options = fitting.FitOptions(
                data=str(data.resolve()),
                init=_ANEW[start] if start in _ANEW else str(fine_tunable(start).resolve()),
                backbone=backbone or "",
                width=fpn_width,
                epochs=epochs,
                batch_size=batch_size,
                lr=lr,
                crop=crop,
                device=chosen,
                amp=amp == "auto" and fitting.has_fast_half(chosen),
                distill=str(distill.resolve()) if distill else "",
                synthetic=synthetic,
                limit_side=limit_side,
                seed=seed,
            )
        fitting.fit(options, run, resume=resume is not None, say=say)
    except KeyboardInterrupt:
        say(f"interrupted; go on with: ocr-detector train --resume {run}")
        return INTERRUPTED
    click.echo(f"best checkpoint: {run / fitting.BEST}")
    return OK


@click.command()
@click.argument("weights", default=DEFAULT_MODEL)
@click.option("--size", type=int, default=800, show_default=True, help="Height and width.")
@click.option("--height", type=int, help="Instead of --size.")
@click.option("--width", type=int, help="Instead of --size.")
@click.option("--dynamic", is_flag=True, help="Any batch, height and width (what the pipeline uses).")
@click.option("--opset", type=click.IntRange(13, 20), default=17, show_default=True)
@click.option("--fp16", "half", is_flag=True, help="Half-precision weights and arithmetic, float32 input and output.")
@click.option("-o", "--output", type=NewFile(), required=True, help="The .onnx file.")
def export(
    weights: str, size: int, height: int | None, width: int | None, dynamic: bool, opset: int, half: bool, output: Path
) -> int:
    """Writes ONNX, then runs it and compares it with torch. WEIGHTS: a shipped model, .safetensors or best.pt.

    \b
    Examples:
      ocr-detector export run/best.pt -o my.fp32.onnx --dynamic
      ocr-detector export dbnet-resnet18 --height 736 --width 1280 -o wide.onnx
    """
    from detector.convert.export import ExportError, check_side, export_onnx, pass_card_on

    try:
        sides = (check_side(height or size), check_side(width or size))
        path = fine_tunable(weights)
        from detector.network.build import load_network  # torch, which takes seconds: what can be refused was

        network = load_network(path)
        parities = export_onnx(network, output, sides, dynamic=dynamic, opset=opset, half=half)
        card = pass_card_on(path, output)
    except ExportError as error:
        say(str(error))
        return USAGE if "not possible" in str(error) else FAILED
    except ValueError as error:
        say(str(error))
        return USAGE
    for item in parities:
        click.echo(f"{item.runtime:>12} {item.size[0]}x{item.size[1]}: largest difference {item.difference:.1e}")
    click.echo(
        f"{output}: {output.stat().st_size / 1e6:.1f} MB, {'dynamic' if dynamic else f'{sides[0]}x{sides[1]}'}"
        + (f", its thresholds in {card.name}" if card else "")
    )
    return OK


@click.command()
@click.argument("model", type=FILE)
@click.option("--images", type=FOLDER, help="Calibration images [default: the training images of --data].")
@click.option("--data", type=FOLDER, help="ICDAR-style folder to compare hmean before and after on (its val split).")
@click.option("--limit-side", type=click.IntRange(32, 8192), default=640, show_default=True)
@click.option("--dynamic", is_flag=True, help="quantize_dynamic: changes fully connected layers only.")
@click.option("--force", is_flag=True, help="Keep the result though it loses more than 1.5 points.")
@click.option("-o", "--output", type=NewFile(), required=True, help="The int8 .onnx file.")
@one_line_errors
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
    from detector.convert.export import pass_card_on
    from detector.evaluation.annotations import held_out_split

    if not model.is_file():
        say(f"{show(model)}: no such file; give an fp32 .onnx file (ocr-detector export makes one)")
        return NOTHING_TO_DO
    quantizing.check_model(model)
    if dynamic:
        with whole_file(output) as unfinished:
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
        return OK
    folder = images or (data / "train_images" if data else None)
    if folder is None:
        raise click.UsageError("give --images FOLDER or --data FOLDER for calibration")
    files = sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
    if not files:
        say(f"{show(folder)}: {'no images in it' if folder.is_dir() else 'no such folder'}; give some to calibrate")
        return NOTHING_TO_DO
    split = (data and held_out_split(data)) or ""
    if quantizing.fixed_size(model):
        split = ""  # pages have all sizes
    with tempfile.TemporaryDirectory(dir=output.parent) as unfinished:
        trial = Path(unfinished) / output.name  # what was there before stays until this one is accepted
        pass_card_on(model, trial)
        quantizing.quantize_static(
            model, trial, quantizing.spread(files, quantizing.CALIBRATION_IMAGES), limit_side=limit_side
        )
        scores = []
        click.echo(f"{'':>6}  {'MB':>7}  {'ms':>7}  {'peak MB':>7}  hmean {split} @{limit_side}")
        for name, path in (("before", model), ("after", trial)):
            cost = quantizing.measure(path)
            if data and split:
                scores.append(quantizing.hmean(path, data, split, limit_side))
            score = f"{scores[-1]:.4f}" if scores else "– (needs --data with a val split, and a --dynamic export)"
            click.echo(f"{name:>6}  {cost.megabytes:7.1f}  {cost.milliseconds:7.1f}  {cost.peak_mb:7.0f}  {score}")
        lost = scores[0] - scores[1] if scores else 0.0
        if lost > quantizing.MOST_LOST and not force:
            say(f"{output}: not written, it loses {100 * lost:.1f} points; --force keeps it")
            return FAILED
        trial.replace(output)
        pass_card_on(model, output)
    return OK
