"""`ocr-detector prune`: fewer channels, then fine-tuning, then what it gained. Heavy imports happen inside."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detector.atomic import atomic_write
from detector.cli.options import refuse_beside_resume
from detector.cli.say import say, tell
from detector.cli.train import FOLDER, can_be_trained_on, fine_tunable
from detector.convert.interrupts import load_library
from detector.errors import read_json, read_text
from detector.exit_codes import ExitCode
from detector.memory import configure_process
from detector.models import DEFAULT_MODEL, MOST_CARD_BYTES

if TYPE_CHECKING:
    from detector.network.dbnet import DBNet

PLAN, START, RESULT, TABLE = "prune.json", "start.safetensors", "pruned.safetensors", "table.txt"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run's folder says of it, in PLAN.

    Attributes:
        model: weights file of the network that is pruned.
        ratio: share of each layer's channels that goes.
        int8: compare the int8 files, too.
        training: the settings of the fine-tuning.
    """

    model: str
    ratio: float
    int8: bool
    training: dict[str, Any]


@click.command()
@click.argument("model", default=DEFAULT_MODEL)
@click.option("--data", type=FOLDER, help="ICDAR-style folder to fine-tune and score on, as for `train`.")
@click.option(
    "--ratio",
    type=click.FloatRange(0, 0.9, min_open=True),
    default=0.3,
    show_default=True,
    help="Share of every layer's channels to cut.",
)
@click.option("--epochs", type=click.IntRange(0), default=10, show_default=True, help="Of fine-tuning; 0: none.")
@click.option("--batch-size", type=click.IntRange(1, 256), default=8, show_default=True)
@click.option("--lr", type=click.FloatRange(0, 1, min_open=True), default=0.007, show_default=True)
@click.option("--crop", type=click.IntRange(64, 2048), default=640, show_default=True, help="A multiple of 32.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--amp", type=click.Choice(["auto", "off"]), default="auto", show_default=True, help="Half precision.")
@click.option("--limit-side", type=click.IntRange(32, 8192), default=1280, show_default=True, help="At validation.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--int8/--no-int8", default=True, show_default=True, help="Also quantize and measure both networks.")
@click.option("-o", "--output", type=FOLDER, help="Folder of the run.")
@click.option("--resume", type=FOLDER, help="Go on with this run where it stopped.")
def prune(
    model: str,
    data: Path | None,
    ratio: float,
    epochs: int,
    batch_size: int,
    lr: float,
    crop: int,
    device: str,
    amp: str,
    limit_side: int,
    seed: int,
    int8: bool,
    output: Path | None,
    resume: Path | None,
) -> int:
    """Cuts the weakest channels of a network, fine-tunes what is left, and prints what it gained and cost.

    \b
    Examples:
      ocr-detector prune dbnet-resnet18 --data receipts -o slim
      ocr-detector prune run/best.pt --data receipts --ratio 0.5 --epochs 30 -o slimmer
      ocr-detector prune dbnet-resnet18 --ratio 0.5 --epochs 0 -o start     (no training: for a recipe of your own)
      ocr-detector prune --resume slim

    RUN/pruned.safetensors is the result. It is a network like any other: `export`, `train --init`, `prune` take it.
    """
    refuse_beside_resume(resume)
    run = resume or output
    if run is None:
        raise click.UsageError("give -o RUN, the folder of the run")
    try:
        if resume is not None:
            if not (run / PLAN).is_file():
                say(f"{run / PLAN}: not found; --resume wants the folder of an earlier `ocr-detector prune`")
                return ExitCode.NOTHING
        else:
            if epochs and data is None:
                raise click.UsageError("give --data FOLDER to fine-tune on (or --epochs 0)")
            if (run / PLAN).exists() or (run / "last.pt").exists():
                raise click.UsageError(
                    f"{run} already holds a run: --resume {run} goes on with it; else choose another -o"
                )
            if crop % 32:
                raise click.UsageError(f"--crop {crop} is not a multiple of 32; the nearest is {round(crop / 32) * 32}")
            source = fine_tunable(model).resolve()
            if data is not None and not can_be_trained_on(data):
                return ExitCode.NOTHING
            training = {
                "data": str(data.resolve()) if data else "",
                "epochs": epochs,
                "batch_size": batch_size,
                "lr": lr,
                "crop": crop,
                "device": device,
                "amp": amp == "auto",
                "limit_side": limit_side,
                "seed": seed,
                "keep_norms": False,  # their statistics belong to inputs that are partly gone
            }
            _start(source, ratio, run, training, int8)
        _finish(run, going_on=resume is not None)
    except KeyboardInterrupt:
        say(f"interrupted; go on with: ocr-detector prune --resume {run}")
        return ExitCode.INTERRUPTED
    tell(f"pruned network: {run / RESULT}")
    return ExitCode.OK


def _start(source: Path, ratio: float, run: Path, training: dict[str, Any], int8: bool) -> None:
    """Prunes, and writes what a resumed run needs."""
    load_library("torch")
    from detector.convert.prune import prune_network
    from detector.network.build import load_network, save_half
    from detector.training import fit as fitting

    pruned = prune_network(load_network(source), ratio)
    training["device"] = fitting.choose_device(training["device"])
    training["amp"] = training["amp"] and fitting.has_fast_half(training["device"])
    run.mkdir(parents=True, exist_ok=True)
    save_half(pruned.state_dict(), run / START)
    _write_card(run / START, pruned, source, ratio)
    training |= {"init": str((run / START).resolve()), "backbone": pruned.backbone}
    plan = {"model": str(source), "ratio": ratio, "int8": int8, "training": training}
    with atomic_write(run / PLAN, sync=True) as unfinished:
        unfinished.write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")


def _write_card(path: Path, network: DBNet, source: Path, ratio: float) -> None:
    """The card beside a pruned network's weights: the box thresholds are those of its source."""
    from detector.models import load_card

    card = load_card(source)
    facts = {
        "name": path.parent.resolve().name,
        "backbone": network.backbone,
        "width": network.width,
        "mean": card.mean,
        "std": card.std,
        **asdict(card.thresholds),
        "recipe": f"{card.name}, {100 * ratio:g} % of the channels cut with ocr-detector prune",
    }
    with atomic_write(path.with_suffix(".json"), sync=True) as unfinished:
        unfinished.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _finish(run: Path, going_on: bool) -> None:
    """Fine-tunes from START, writes the result and the table."""
    from detector.convert.prune import PruneError, compare, table
    from detector.convert.quantize import CALIBRATION_IMAGES, spread
    from detector.evaluation.annotations import held_out_split, read_split
    from detector.network.build import load_network, save_half
    from detector.training import fit as fitting
    from detector.training.fit_options import as_type

    configure_process(training=True)
    try:
        plan = as_type(read_json(read_text(run / PLAN, MOST_CARD_BYTES)), Plan)
        options = as_type(plan.training, fitting.FitOptions)
    except ValueError as error:
        raise PruneError(f"{run / PLAN}: not the plan of a run ({error}); prune again with another -o") from None
    if options.epochs:
        fitting.fit(options, run, resume=going_on, say=say)
    after, source = load_network(run / (fitting.BEST if options.epochs else START)), Path(plan.model)
    save_half(after.state_dict(), run / RESULT)
    _write_card(run / RESULT, after, source, plan.ratio)
    data = Path(options.data) if options.data else None
    split = held_out_split(data) if data else None
    pages = [sample.image for sample in read_split(data, "train")] if data and plan.int8 else []
    rows = compare(
        load_network(source),
        load_network(run / RESULT),
        spread(pages, CALIBRATION_IMAGES),
        card=(run / RESULT).with_suffix(".json"),
        data=data if split else None,
        split=split or "",
        limit_side=options.limit_side,
    )
    text = table(rows) + (f"\nhmean: {split} of {data} at {options.limit_side}" if split else "")
    with atomic_write(run / TABLE, sync=True) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")
    tell(*text.split("\n"))
