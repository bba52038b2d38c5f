"""`ocr-detector train`, `export`, `quantize`: the workshop's commands. Heavy imports happen inside the commands."""

from __future__ import annotations

from pathlib import Path

import click

from detector.cli.options import refuse_beside_resume
from detector.cli.say import say, tell
from detector.convert.interrupts import load_library
from detector.errors import ModelError, read_json, read_text
from detector.exit_codes import ExitCode
from detector.memory import configure_process
from detector.models import DEFAULT_MODEL, MOST_CARD_BYTES, WEIGHTS_FOLDER, list_models, load_card, weights_path

_FRESH = {"none": "", "imagenet": "imagenet"}
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
    from detector.training.dataset import check_data

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
    "--fpn-width", type=click.IntRange(8, 512), help="Of the feature pyramid, of a fresh network; 4, 8, 12, ..."
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
    load_library("torch")
    from detector.training import fit as fitting
    from detector.training import fit_options
    from detector.training.dataset import describe_data

    refuse_beside_resume(resume)
    configure_process(training=True)
    if resume is not None:
        saved = resume / fitting.CONFIG
        if not saved.is_file():
            say(f"{saved}: not found; --resume wants the folder of an earlier run")
            return ExitCode.NOTHING
        try:
            options = fit_options.as_type(read_json(read_text(saved, MOST_CARD_BYTES)), fitting.FitOptions)
            if not options.epochs:
                raise ValueError("no epochs")
        except ValueError as error:
            say(f"{saved}: not the settings of a run ({error}); start a new run with -o")
            return ExitCode.USAGE
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
        return ExitCode.NOTHING
    if check_only or run is None:
        tell(f"{data}: nothing wrong; {describe_data(data)}")
        return ExitCode.OK
    try:
        if resume is None:
            if (run / fitting.LAST).is_file():
                raise click.UsageError(
                    f"{run} already holds a run: --resume {run} goes on with it; else choose another -o"
                )
            start = init or _first_weights(backbone, fpn_width)
            if fpn_width and start not in _FRESH:
                raise click.UsageError("--fpn-width is for --init none or imagenet; weights have their own width")
            chosen = fitting.choose_device(device)
            options = fitting.FitOptions(
                data=str(data.resolve()),
                init=_FRESH[start] if start in _FRESH else str(fine_tunable(start).resolve()),
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
        return ExitCode.INTERRUPTED
    tell(f"best checkpoint: {run / fitting.BEST}")
    return ExitCode.OK
