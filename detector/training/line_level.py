"""The recipe of the shipped line-level weights: data folders in, int8 ONNX, fp16 safetensors and a model card out.

    python -m detector.training.line_level DATA RUN [--model dbnet-resnet18]
    python -m detector.training.line_level DATA RUN --model dbnet-resnet18-slim --init BIG.fp16.safetensors

The steps: the teacher out of a PyPI wheel (or --teacher), its maps of all images, synthetic pages, training, and when
that is done the release in RUN/release: quantized, box thresholds chosen on held-out pages, scores measured. DATA
is described in recipe/data_mix.py. Everything is kept in RUN: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detector.cli.say import tell
from detector.convert.quantize import CALIBRATION_IMAGES, spread
from detector.errors import DetectorError, read_json, read_text
from detector.evaluation.annotations import has_split, read_split
from detector.memory import configure_process
from detector.models import MOST_CARD_BYTES, weights_path
from detector.network.build import load_network, read_state
from detector.predictor import TextDetector
from detector.public.pypi_files import fetch
from detector.thresholds import Thresholds
from detector.training.dataset import BatchSource
from detector.training.recipe.checkpoint import checkpoint_step
from detector.training.recipe.choose_thresholds import ValidationSet, choose_thresholds, count
from detector.training.recipe.command import run_resumable
from detector.training.recipe.data_mix import TEACHER, calibration_images, collect, counts, text_free_photos
from detector.training.recipe.deciding import deciding_sets
from detector.training.recipe.trend import Trend, make_trend
from detector.training.release import CardNotes, add_scores, add_thresholds, release, sources
from detector.training.teacher import Teacher
from detector.training.trainer import Phase, TrainConfig, Trainer
from detector.training.validate import validate

LAST, CONFIG = "last.pt", "config.json"
SCORED = {"td500": (640, 960), "sroie": (640, 960, 1280), "funsd": (640, 960, 1280)}
# At these sizes the fp32 network is measured too: the profiles' smallest, and what small print needs.
FULL_PRECISION = {"td500": (640,), "sroie": (640, 1280), "funsd": (640, 1280)}
TEXT_FREE_PHOTOS = 150  # so many must stay (nearly) without boxes
CPU_PHASES, CUDA_PHASES = "0.6:384x6 0.85:512x4 1:640x3", "0.6:512x32 1:640x24"
LOOK_EVERY = 1000  # steps
TREND_THRESHOLDS = Thresholds(0.45, 0.7, 1.2)  # v5's, for the trend alone; a release chooses its own
HINT = 2.0  # of the teacher network's features beside the map's loss, which begins at about 6
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What differs between the shipped models.

    Attributes:
        backbone: of the network.
        lr: peak learning rate.
        trunk_lr: factor on it for the trunk.
        steps: of the whole run.
        pruned: share of each layer's channels that is cut before training; 0 for none.
        init: where the weights come from unless --init says otherwise: a pattern in DATA, a shipped model, or "".
        teacher_network: the shipped model whose features are a second target (feature_distillation.py), or "".
        words: for the card.
    """

    backbone: str
    lr: float
    trunk_lr: float
    steps: int
    pruned: float
    init: str
    teacher_network: str
    words: str


RECIPES = {
    "dbnet-resnet18": Recipe("resnet18", 7e-4, 0.3, 20000, 0.0, "init/*resnet18*.safetensors", "", "trained"),
    # 40 % of the channels less is 60 % less arithmetic.
    "dbnet-resnet18-slim": Recipe("resnet18", 1e-3, 0.7, 8000, 0.4, "dbnet-resnet18", "", "pruned, then fine-tuned"),
    "dbnet-mobilenet-v3-small": Recipe(
        "mobilenet_v3_small", 3e-3, 1.0, 20000, 0.0, "", "dbnet-resnet18", "trained from random weights"
    ),
}


class RecipeError(DetectorError):
    """The run cannot start or go on; one line with the remedy."""


def parse_phases(text: str) -> tuple[Phase, ...]:
    """Phases from text: "0.6:384x6 1:640x3" is six crops of 384 px for 60 % of the steps, then three of 640 px.

    Raises:
        RecipeError: not of this form.
    """
    try:
        parts = [part.replace(":", " ").replace("x", " ").split() for part in text.split()]
        phases = tuple(Phase(float(until), int(crop), int(batch)) for until, crop, batch in parts)
    except ValueError:
        raise RecipeError(f"--phases {text!r}: expected UNTIL:CROPxBATCH ..., such as {CPU_PHASES!r}") from None
    if not phases or phases[-1].until != 1 or any(phase.crop % 32 for phase in phases):
        raise RecipeError(f"--phases {text!r}: crops are multiples of 32, and the last phase ends at 1")
    return phases


def start_file(recipe: Recipe, data: Path, init: Path | None) -> Path | None:
    """Where a new run's weights come from; None for random ones.

    Raises:
        ModelError: the shipped model that a pruned one is made of is not there.
    """
    if init is not None or not recipe.init:
        return init
    if "*" in recipe.init:
        return next(iter(sorted(data.glob(recipe.init))), None)
    return weights_path(recipe.init, "fp16_safetensors")


def first_weights(recipe: Recipe, start: Path | None) -> dict[str, Tensor] | None:
    """The weights that a new run starts from, pruned if the recipe says so; None for random ones.

    Raises:
        ModelError: the file holds no weights of ours.
    """
    if start is None or not recipe.pruned:
        return None if start is None else read_state(start)
    from detector.convert.prune import prune_network

    return dict(prune_network(load_network(start), recipe.pruned).state_dict())


def make_config(recipe: Recipe, phases: tuple[Phase, ...], options: argparse.Namespace) -> TrainConfig:
    """Small crops first, larger ones at the end, a cosine fall over the whole plan.

    The average is one over about the last tenth of the steps (it rises to 0.9995 as `Trainer` says): a run that is cut
    short has learnt at a high rate, and its averaged weights are what can be used of it.
    """
    steps = options.steps or recipe.steps
    return TrainConfig(
        steps=steps,
        phases=phases,
        backbone=recipe.backbone,
        lr=options.lr or recipe.lr,
        trunk_lr=recipe.trunk_lr,
        cooldown=1.0,
        warmup=200,
        ema=0.9995,
        first=checkpoint_step(options.go_on) if options.go_on else 0,
        device=options.device,
        threads=options.threads,
        hint=HINT if recipe.teacher_network else 0.0,
        save_every=min(200, max(1, steps // 10)),
    )


def check_same_run(run: Path, config: dict[str, Any]) -> None:
    """Keeps the settings of a new run, and refuses to go on with others.

    Raises:
        RecipeError: RUN was begun with other settings.
    """
    saved, plain = run / CONFIG, read_json(json.dumps(config))
    if not saved.is_file():
        saved.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
        return
    before = read_json(read_text(saved, MOST_CARD_BYTES))
    changed = [f"{key} {before.get(key)} -> {plain[key]}" for key in plain if before.get(key) != plain[key]]
    if changed:
        raise RecipeError(f"{saved}: the run was begun with other settings ({'; '.join(changed)}); choose another RUN")


def train(trainer: Trainer, source: BatchSource, run: Path, say: Say, trend: Trend | None = None) -> None:
    """From where the trainer stands to the last step, saving now and then, and looking at the held-out photos."""
    started, first, steps = time.monotonic(), trainer.step, trainer.config.steps
    for progress in trainer.run(source):
        if progress.step % 50 == 0 or progress.step == steps:
            pace = (progress.step - first) / (time.monotonic() - started)
            terms = "  ".join(f"{name} {value:.3f}" for name, value in progress.terms.items())
            say(f"{progress.step}/{steps}  {terms}  lr {progress.rate:.1e}  {pace:.2f} steps/s")
        if progress.step % trainer.config.save_every == 0 or progress.step == steps:
            trainer.save(run / LAST)
        if trend and (progress.step % LOOK_EVERY == 0 or progress.step == steps):
            say(f"{progress.step}/{steps}  {trend.line(trainer.average)}")


def validation_sets(data: Path, sizes: dict[str, tuple[int, ...]]) -> list[ValidationSet]:
    """Those of the validation splits that are there."""
    return [
        ValidationSet(f"{name} val @{side}", read_split(data / name, "val"), side)
        for name, sides in sizes.items()
        if has_split(data / name, "val")
        for side in sides
    ]


def finish(model: str, notes: CardNotes, data: Path, run: Path, say: Say, weights: Path | None = None) -> Path:
    """Quantizes, chooses the box thresholds on held-out pages, measures, writes the card; returns its path."""
    say("quantizing")
    card = release(weights or run / LAST, run / "release", model, calibration_images(data, CALIBRATION_IMAGES), notes)
    int8, half = card.with_name(f"{model}.int8.onnx"), card.with_name(f"{model}.fp16.safetensors")
    detector = TextDetector(int8)
    deciding = deciding_sets(data, run)
    thresholds = choose_thresholds(detector, deciding, spread(text_free_photos(run), TEXT_FREE_PHOTOS))
    add_thresholds(card, thresholds, ", ".join(f"{len(pages.samples)} {pages.label}" for pages in deciding))
    say(
        f"box thresholds: binarize {thresholds.binarize}, box {thresholds.box_threshold}, "
        f"unclip {thresholds.unclip_ratio}"
    )
    scores = int8_scores(detector, validation_sets(data, SCORED), thresholds, say)
    network = load_network(half)
    for pages in validation_sets(data, FULL_PRECISION):
        label = f"{pages.label} fp32"
        scores[label] = round(validate(network, pages.samples, pages.limit_side, thresholds).hmean, 4)
        say(f"{label} {scores[label]:.3f}")
    add_scores(card, scores)
    return card


def int8_scores(
    detector: TextDetector, sets: list[ValidationSet], thresholds: Thresholds, say: Say
) -> dict[str, float]:
    """hmean by set and size."""
    scores = {}
    for pages in sets:
        label = f"{pages.label} int8"
        scores[label] = round(count(detector, pages, [thresholds])[thresholds].hmean, 4)
        say(f"{label} {scores[label]:.3f}")
    return scores


def describe(recipe: Recipe, config: TrainConfig, start: Path | None) -> str:
    """The recipe in a few sentences, for the card."""
    phases = ", ".join(f"{phase.batch} crops of {phase.crop} px until {phase.until:.0%}" for phase in config.phases)
    origin = f" from {start.name}" if start else ""
    guided = (
        f" The features of {recipe.teacher_network} were a second target for the first {config.hint_until:.0%} "
        "of the steps."
    )
    hint = guided if recipe.teacher_network else ""
    cut = f" {recipe.pruned:.0%} of the channels were cut first." if recipe.pruned else ""
    return (
        f"{recipe.words.capitalize()}{origin}: {config.steps} steps, {phases}; AdamW, peak rate {config.lr:g} (trunk "
        f"x{config.trunk_lr:g}), cosine fall over the last {config.cooldown:.0%}, EMA {config.ema:g}.{cut}{hint} "
        "Targets: line ground truth for td500, sroie and funsd (text that only the teacher sees at weight 0.3), "
        "the teacher's maps elsewhere, synthetic pages. `make train` does it all; the log: detector/training/NOTES.md."
    )


def run_recipe(options: argparse.Namespace, say: Say) -> Path:
    """The whole recipe, or what is left of it; returns the card's path.

    Raises:
        DetectorError, OSError: one line each.
    """
    recipe, run = RECIPES[options.model], options.run
    if options.ratio is not None or options.go_on:
        recipe = replace(recipe, pruned=0.0 if options.go_on else options.ratio)
    if not options.data.is_dir():
        raise RecipeError(f"{options.data}: no such folder; DATA holds td500, sroie and so on (see recipe/data_mix.py)")
    run.mkdir(parents=True, exist_ok=True)
    phases = parse_phases(options.phases or (CUDA_PHASES if options.device == "cuda" else CPU_PHASES))
    config = make_config(recipe, phases, options)
    start = start_file(recipe, options.data, options.go_on or options.init)
    settings = {
        "model": options.model,
        "init": start and start.name,
        "pruned": recipe.pruned,
        "synthetic": options.synthetic,
    }
    check_same_run(run, settings | config.plain())
    teacher = options.teacher or fetch([TEACHER], run / "teacher")[0]
    maker = None if options.cached_only else Teacher(teacher, threads=options.threads)
    groups = collect(options.data, run, maker, options.synthetic)
    trend = make_trend(options.data, run, maker, TREND_THRESHOLDS)
    for weight, pages in groups:
        say(f"weight {weight}: {len(pages)} pages, such as {pages[0].image}")
    source, last = BatchSource(groups, config.seed), run / LAST
    teacher_network = (
        load_network(weights_path(recipe.teacher_network, "fp16_safetensors")) if recipe.teacher_network else None
    )
    if last.is_file():
        trainer = Trainer(config, read_state(last), teacher_network=teacher_network)
        trainer.restore(last)
        say(f"going on at step {trainer.step} of {config.steps}")
    else:
        trainer = Trainer(config, first_weights(recipe, start), teacher_network=teacher_network)
    train(trainer, source, run, say, trend)
    notes = CardNotes(describe(recipe, config, start), sources(counts(options.data, options.synthetic)))
    return finish(options.model, notes, options.data, run, say)


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m detector.training.line_level",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cuda = torch.cuda.is_available()
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--model", choices=list(RECIPES), default="dbnet-resnet18")
    parser.add_argument("--teacher", type=Path, help="a DB-family .onnx [default: PP-OCRv6 small, out of PyPI]")
    parser.add_argument("--init", type=Path, help="weights to start from [default: the model's recipe]")
    parser.add_argument("--go-on", type=Path, help="a checkpoint of recipe.checkpoint: begin at its step of the plan")
    parser.add_argument("--cached-only", action="store_true", help="train on what recipe.prepare has made so far")
    parser.add_argument("--ratio", type=float, help="share of the channels to prune first [default: the recipe's]")
    parser.add_argument("--steps", type=int, help="[default: the model's recipe]")
    parser.add_argument("--lr", type=float, help="peak learning rate [default: the model's recipe]")
    parser.add_argument("--phases", help=f"UNTIL:CROPxBATCH ... [default: {CPU_PHASES!r}; on CUDA {CUDA_PHASES!r}]")
    parser.add_argument("--synthetic", type=int, default=3000, help="pages to draw [3000]")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if cuda else "cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Runs the recipe; returns the exit code."""
    options = parse(words)
    configure_process(training=True)

    def work() -> None:
        card = run_recipe(options, tell)
        tell(f"done: {card} and the two files beside it; copy all three into detector/weights to ship them")

    return run_resumable(work, options.run)


if __name__ == "__main__":
    sys.exit(main())
