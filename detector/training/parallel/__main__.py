"""Trains shipped models on a GPU within a given time, and makes their releases.

    python -m detector.training.recipe.prepare DATA RUN --synthetic 10000      (once: the teacher's maps, pages)
    python -m detector.training.parallel DATA RUN --minutes 10 --model dbnet-resnet18 --model dbnet-resnet18-slim

The first model learns from every step's crops, the others by turns. Each begins with the shipped weights of its name
unless --init NAME=FILE says otherwise. The same command goes on where it stopped. Releases: RUN/release.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import cv2
import torch

from detector.cli.say import tell
from detector.models import weights_path
from detector.network.build import read_state, save_half
from detector.training.line_level import RECIPES, RecipeError, finish
from detector.training.parallel.clock import Clock, Say, restore, run_by_clock
from detector.training.parallel.crop_pool import CropPool
from detector.training.parallel.crop_workers import CropWorkers, hold
from detector.training.parallel.mean import mean_of
from detector.training.parallel.student import Pace, Student
from detector.training.recipe.command import run_resumable
from detector.training.recipe.data_mix import collect, counts
from detector.training.release import CardNotes, sources

CROP = 512
EMA = 0.9993
NORM_BATCHES, NORM_CROPS = 40, 8
"""From which the running statistics of a mean are estimated: the largest variances then move by 3 %."""
PACES = {
    "dbnet-resnet18": Pace(1e-3, 0.5),
    "dbnet-resnet18-slim": Pace(1.2e-3, 0.7),
    "dbnet-mobilenet-v3-small": Pace(2.5e-3, 1.0),
}
"""Of 32 crops a step."""


def start_weights(name: str, given: dict[str, Path]) -> Path:
    """Where a model begins."""
    return given.get(name) or weights_path(name, "fp16_safetensors")


def describe(name: str, origin: str, steps: int, options: argparse.Namespace) -> str:
    """The recipe in a few sentences, for the card."""
    pace, other = PACES[name], dict(options.mean_with).get(name)
    mean = f"The mean with {other.name}. " if other else ""
    return (
        f"{mean}From {origin}, {steps} steps of {options.batch} crops of {options.crop} px: {options.minutes:g} min "
        f"on a GPU, with {len(options.model)} models in all; AdamW, peak rate {pace.lr:g} (trunk x{pace.trunk_lr:g}), "
        f"cosine fall to the end, EMA {EMA:g}, BatchNorm behind the trunk's convolutions while it learnt. Targets: "
        "line ground truth for td500, sroie and funsd (text that only the teacher sees at weight 0.3), the teacher's "
        "maps elsewhere, synthetic pages. The command: python -m detector.training.parallel; the log: "
        "detector/training/NOTES.md."
    )


def train(options: argparse.Namespace, say: Say) -> dict[str, int]:
    """Trains what is left of the time, and writes RUN/NAME.fp16.safetensors of each model; returns their steps.

    Raises:
        DetectorError: one line each.
    """
    given = dict(options.init)
    states = {name: read_state(start_weights(name, given)) for name in options.model}
    groups = hold(collect(options.data, options.run, None, options.synthetic), options.workers)
    if not groups:
        raise RecipeError(f"{options.run}: no page with the teacher's map; run detector.training.recipe.prepare first")
    say(f"{sum(len(group.pages) for group in groups)} pages in memory")
    device = torch.device(options.device)
    with CropWorkers(groups, options.crop, options.workers, seed=0) as workers:
        pool = CropPool(workers, options.pool, options.crop, device, seed=1)
        pool.wait(min(options.pool, 1500))
        first = pool.batch(options.batch).image
        students = [Student(name, state, PACES[name], first, EMA, pool.paused()) for name, state in states.items()]
        clock = Clock(options.minutes * 60, restore(students, options.run))
        steps = run_by_clock(students, pool, options.batch, clock, options.run, say)
        others = dict(options.mean_with)
        for student in students:
            weights = student.weights()
            if student.name in others:
                crops = (pool.batch(NORM_CROPS).image for _ in range(NORM_BATCHES))
                weights = mean_of(weights, read_state(others[student.name]), crops)
            save_half(weights, options.run / f"{student.name}.fp16.safetensors")
    return steps


def run_parallel(options: argparse.Namespace, say: Say) -> None:
    """Training, then a release of each model."""
    options.run.mkdir(parents=True, exist_ok=True)
    steps = train(options, say)
    for name in options.model:
        origin = start_weights(name, dict(options.init)).name
        notes = CardNotes(
            describe(name, origin, steps[name], options), sources(counts(options.data, options.synthetic))
        )
        weights = options.run / f"{name}.fp16.safetensors"
        say(f"done: {finish(name, notes, options.data, options.run, say, weights)} and the two files beside it")


def name_and_file(text: str) -> tuple[str, Path]:
    """NAME=FILE."""
    name, equals, file = text.partition("=")
    if not equals or name not in RECIPES:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=FILE, NAME one of {', '.join(RECIPES)}")
    return name, Path(file)


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m detector.training.parallel",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--model", choices=list(RECIPES), action="append", help="[dbnet-resnet18]; may be repeated")
    parser.add_argument("--init", type=name_and_file, action="append", default=[], metavar="NAME=FILE")
    parser.add_argument(
        "--mean-with",
        type=name_and_file,
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="save the mean with these",
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="of training [10]")
    parser.add_argument("--batch", type=int, default=32, help="crops a step [32]")
    parser.add_argument("--crop", type=int, default=CROP, help="pixels, a multiple of 32 [512]")
    parser.add_argument("--pool", type=int, default=12288, help="crops on the device, 1.8 MB each [12288]")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="that draw crops")
    parser.add_argument("--synthetic", type=int, default=10000, help="synthetic pages that prepare has drawn [10000]")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(words)
    options.model = list(dict.fromkeys(options.model or ["dbnet-resnet18"]))
    return options


def main(words: list[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    options = parse(words)
    cv2.setNumThreads(1)
    return run_resumable(lambda: run_parallel(options, tell), options.run)


if __name__ == "__main__":
    sys.exit(main())
