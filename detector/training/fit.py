"""Fine-tuning on a user's data folder: what `ocr-detector train` does, without the command line."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from detector.annotations import Sample, find_problems, has_split, read_split
from detector.network.build import read_state, recognise
from detector.training.dataset import BatchSource, TrainingPage, page_from_sample
from detector.training.trainer import Phase, TrainConfig, Trainer
from detector.training.validate import validate

BEST, LAST, CONFIG, METRICS, CURVE = "best.pt", "last.pt", "config.json", "metrics.csv", "curve.png"
MICRO_PIXELS = 2 * 640 * 640  # pixels through the network at a time: about 2 GB in fp32 with gradients


class FitError(ValueError):
    """The run cannot start or go on; one line with the remedy."""


@dataclass(frozen=True, slots=True)
class FitOptions:
    """What the user chose.

    Attributes:
        data: ICDAR-style folder.
        init: weights file, or '' for none.
        backbone: name, decided by ``init`` if there is one.
        epochs, batch_size, lr, crop: as in the paper's recipe.
        device: 'cpu' or 'cuda'.
        amp: half-precision autocast.
        distill: teacher's ONNX file or ''.
        synthetic: rendered pages to mix in.
        limit_side: longest side at validation.
        seed: of every random choice.
    """

    data: str
    init: str = ""
    backbone: str = "resnet18"
    epochs: int = 5
    batch_size: int = 8
    lr: float = 0.007
    crop: int = 640
    device: str = "cpu"
    amp: bool = False
    distill: str = ""
    synthetic: int = 0
    limit_side: int = 1280
    seed: int = 0


def choose_device(wanted: str) -> str:
    """'auto' is CUDA if there is one.

    Raises:
        FitError: CUDA was asked for and is not there.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise FitError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


def has_fast_half(device: str) -> bool:
    """Whether autocast pays: CUDA, or a CPU with bfloat16 instructions (others emulate it slowly)."""
    if device == "cuda":
        return True
    info = Path("/proc/cpuinfo")
    return info.is_file() and any(flag in info.read_text() for flag in ("avx512_bf16", "amx_bf16", " bf16"))


def check_data(folder: Path) -> list[str]:
    """Problems of a data folder, one line each; a missing training split is one."""
    problems = find_problems(folder)
    if not problems and not has_split(folder, "train"):
        problems.append(f"{folder}: has no train_list.txt and no train_images/")
    return problems


def held_out(folder: Path) -> list[Sample]:
    """Validation samples: the val split, else test, else none."""
    for split in ("val", "test"):
        if has_split(folder, split):
            return read_split(folder, split)
    return []


def _teach(pages: list[TrainingPage], teacher_file: Path, folder: Path) -> list[TrainingPage]:
    from detector.training.teacher import Teacher, cache_page

    teacher, taught = Teacher(teacher_file), []
    for number, page in enumerate(pages):
        cached = cache_page(page.image, folder / str(number), teacher, limits=(960,), keep_side=1280)
        taught.append(replace(page, image=cached.image, quads=page.quads * cached.scale, teacher=cached.teacher))
    return taught


def _groups(options: FitOptions, run: Path) -> list[tuple[float, list[TrainingPage]]]:
    pages = [page_from_sample(sample) for sample in read_split(Path(options.data), "train")]
    if options.distill:
        pages = _teach(pages, Path(options.distill), run / "teacher")
    groups = [(1.0, pages)]
    if options.synthetic:
        from detector.training.synth import render

        render(run / "synthetic", range(options.synthetic), [], options.seed)
        drawn = [page_from_sample(sample) for sample in read_split(run / "synthetic", "train")]
        groups.append((0.3, drawn))
    return groups


def make_config(options: FitOptions, pages: int, width: int | None) -> TrainConfig:
    """The trainer's settings: SGD with poly decay as in the paper, whole epochs."""
    steps = options.epochs * math.ceil(pages / options.batch_size)
    return TrainConfig(
        steps=steps,
        phases=(Phase(1.0, options.crop, options.batch_size),),
        backbone=options.backbone,
        width=width,
        optimizer="sgd",
        lr=options.lr,
        trunk_lr=1.0,
        schedule="poly",
        warmup=min(100, max(1, steps // 10)),
        # An average over about a fifth of the run: long enough to be steady, short enough to follow.
        ema=min(0.999, 1 - 1 / max(2.0, steps / 5)),
        amp=options.amp,
        micro_batch=max(1, MICRO_PIXELS // options.crop**2),
        device=options.device,
        seed=options.seed,
    )


def fit(options: FitOptions, run: Path, *, resume: bool = False, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Trains, validates every epoch, keeps the best and the last checkpoint.

    Writes RUN/config.json, last.pt, best.pt (by validation hmean; the last one without validation data),
    metrics.csv and curve.png.

    Args:
        options: of the run; with ``resume`` those saved in RUN/config.json should be given.
        run: folder of the run.
        resume: go on from RUN/last.pt.
        say: gets lines for the user.

    Returns:
        The last row of the metrics.

    Raises:
        FitError, AnnotationError, DetectorError, ValueError: one line each.
    """
    run.mkdir(parents=True, exist_ok=True)
    (run / CONFIG).write_text(json.dumps(asdict(options), indent=2) + "\n", encoding="utf-8")
    state = read_state(Path(options.init)) if options.init else None
    width = None
    if state is not None:
        backbone, width = recognise(state)
        options = replace(options, backbone=backbone)
    groups, samples = _groups(options, run), held_out(Path(options.data))
    config = make_config(options, len(groups[0][1]), width)
    trainer = Trainer(config, state)
    if resume and (run / LAST).is_file():
        trainer.restore(run / LAST)
    per_epoch = config.steps // options.epochs
    say(
        f"{len(groups[0][1])} training and {len(samples)} validation images, {config.steps} steps of "
        f"{options.batch_size} crops of {options.crop} px on {config.device}{' (half precision)' if config.amp else ''}"
    )
    history: list[dict[str, Any]] = trainer.notes.setdefault("history", [])
    if not history and samples:
        _note(history, run, say, {"epoch": 0, "step": 0, **_score(trainer, samples, options.limit_side)})
    source, started, first, total = BatchSource(groups, options.seed), time.monotonic(), trainer.step, 0.0
    for progress in trainer.run(source):
        total = trainer.notes["loss"] = trainer.notes.get("loss", 0.0) + progress.loss
        at_end = progress.step % per_epoch == 0
        if progress.step % 20 == 0 or at_end:
            left = (time.monotonic() - started) / (progress.step - first) * (config.steps - progress.step)
            say(f"step {progress.step}/{config.steps}  loss {progress.loss:.3f}  {_clock(left)} left")
        if at_end:
            row = {"epoch": progress.step // per_epoch, "step": progress.step, "loss": round(total / per_epoch, 5)}
            trainer.notes["loss"] = 0.0
            row |= _score(trainer, samples, options.limit_side) if samples else {}
            best = max((past.get("hmean", -1.0) for past in history if past["epoch"]), default=-1.0)
            _note(history, run, say, row)
            if row.get("hmean", math.inf) > best:
                trainer.save(run / BEST)
            trainer.save(run / LAST)
        elif progress.step % config.save_every == 0:
            trainer.save(run / LAST)
    return history[-1] if history else {}


def _score(trainer: Trainer, samples: list[Sample], limit_side: int) -> dict[str, float]:
    counts = validate(trainer.average, samples, limit_side)
    return {name: round(getattr(counts, name), 4) for name in ("precision", "recall", "hmean")}


def _note(history: list[dict[str, Any]], run: Path, say: Callable[[str], None], row: dict[str, Any]) -> None:
    history.append(row)
    columns = ["epoch", "step", "loss", "precision", "recall", "hmean"]
    with (run / METRICS).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(history)
    draw_curve(history, run / CURVE)
    say("epoch " + "  ".join(f"{name} {row[name]}" for name in columns if name in row).removeprefix("epoch "))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def draw_curve(history: list[dict[str, Any]], path: Path) -> None:
    """A PNG of the loss and the validation hmean by epoch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    losses = [(row["epoch"], row["loss"]) for row in history if "loss" in row]
    scores = [(row["epoch"], row["hmean"]) for row in history if "hmean" in row]
    if losses:
        axes.plot(*zip(*losses, strict=True), color="tab:gray", marker="o", label="training loss")
    axes.set(xlabel="epoch", ylabel="training loss")
    if scores:
        right = axes.twinx()
        right.plot(*zip(*scores, strict=True), color="tab:blue", marker="o", label="validation hmean")
        right.set_ylabel("validation hmean")
        right.yaxis.label.set_color("tab:blue")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
