"""Fine-tuning on a user's data folder: what `ocr-detector train` does, without the command line."""

from __future__ import annotations

import hashlib
import json
import math
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detector.atomic import atomic_write
from detector.errors import DetectorError, ModelError
from detector.evaluation.annotations import Sample, held_out_split, read_split
from detector.images.page import page_header
from detector.models import IMAGENET_MEAN, IMAGENET_STD, load_card
from detector.network.build import build_network, network_from_state, read_state
from detector.network.dbnet import DBNet
from detector.network.plain_weights import load_plain
from detector.runtimes.torch import has_bf16_instructions
from detector.thresholds import Thresholds
from detector.training.augment import suit_view
from detector.training.dataset import BatchSource, TrainingPage, check_data, page_from_sample
from detector.training.fit_options import FitOptions
from detector.training.history import COLUMNS, CURVE, METRICS, write_history
from detector.training.run_folder import without_links
from detector.training.trainer import Phase, TrainConfig, Trainer
from detector.training.validate import validate

__all__ = ["BEST", "CONFIG", "CURVE", "LAST", "METRICS", "FitError", "FitOptions", "check_data", "choose_device", "fit"]

BEST, LAST, CONFIG, CARD = "best.pt", "last.pt", "config.json", "best.json"
IMAGENET = "imagenet"
MICRO_PIXELS = 2 * 640 * 640  # pixels through the network at a time: about 2 GB in fp32 with gradients
SCALES = (0.7, 1.4)  # of training crops, around the size at which pages are validated and used
SYNTHETIC_SHARE = 0.3  # of rendered pages to one user's page in a batch
DOWNLOAD_SECONDS = 20.0
SAVE_SECONDS, SAY_SECONDS = 300.0, 20.0

Say = Callable[[str], None]


class FitError(DetectorError):
    """The run cannot start or go on; one line with the remedy."""


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
    return device == "cuda" or has_bf16_instructions()


def held_out(folder: Path) -> list[Sample]:
    """Validation samples: the val split, else test, else none."""
    split = held_out_split(folder)
    return read_split(folder, split) if split else []


def training_pages(folder: Path, limit_side: int) -> list[TrainingPage]:
    """The train split, each page with a view that scales it around the size at which it will be used."""
    pages = [page_from_sample(sample) for sample in read_split(folder, "train")]
    view = suit_view(np.concatenate([page.quads[~page.ignore] for page in pages]), (1.0, 1.0))
    suited = []
    for page in pages:
        side = min(limit_side, max(page_header(page.image).upright_size))
        suited.append(replace(page, view=replace(view, sides=(SCALES[0] * side, SCALES[1] * side))))
    return suited


def _groups(options: FitOptions, run: Path, say: Say) -> list[tuple[float, list[TrainingPage]]]:
    pages = training_pages(Path(options.data), options.limit_side)
    if options.distill:
        from detector.training.distill import load_teacher, teach

        folder = without_links(run / "teacher")
        pages = teach(pages, load_teacher(Path(options.distill), folder, torch.get_num_threads()), folder, say)
    groups = [(1.0, pages)]
    if options.synthetic:
        from detector.training.synth.render import render

        say(f"rendering {options.synthetic} synthetic pages")
        folder = without_links(run / f"synthetic-{options.seed}")
        render(folder, range(options.synthetic), [], options.seed)
        drawn = [page_from_sample(sample) for sample in read_split(folder, "train")]
        groups.append((SYNTHETIC_SHARE, drawn))
    return groups


def make_config(options: FitOptions, pages: int, network: DBNet) -> TrainConfig:
    """The trainer's settings: SGD with poly decay as in the paper, whole epochs."""
    steps = options.epochs * math.ceil(pages / options.batch_size)
    return TrainConfig(
        steps=steps,
        phases=(Phase(1.0, options.crop, options.batch_size),),
        backbone=network.backbone,
        width=network.width,
        optimizer="sgd",
        lr=options.lr,
        trunk_lr=1.0,
        schedule="poly",
        warmup=min(100, max(1, steps // 10)),
        # An average over about a fifth of the run: long enough to be steady, short enough to follow.
        ema=min(0.999, 1 - 1 / max(2.0, steps / 5)),
        amp=options.amp,
        micro_batch=max(1, MICRO_PIXELS // options.crop**2),
        freeze_norm=options.keep_norms and options.init not in ("", IMAGENET),
        device=options.device,
        seed=options.seed,
    )


def start_network(options: FitOptions, saved: Path | None, say: Say) -> DBNet:
    """The network that training starts from or, with a saved checkpoint, goes on with.

    Raises:
        ModelError: a file holds no network of ours, with its name.
        FitError: there are no ImageNet weights for this backbone.
    """
    torch.manual_seed(options.seed)
    if saved is None and options.init in ("", IMAGENET):
        return _fresh_network(options, say)
    file = saved or Path(options.init)
    try:
        network = network_from_state(load_plain(file)["model"] if saved else read_state(file))
    except (KeyError, TypeError):
        raise FitError(f"{file}: not a checkpoint of ocr-detector train") from None
    except ModelError as error:
        raise FitError(str(error) if str(file) in str(error) else f"{file}: {error}") from None
    if options.backbone not in ("", network.backbone):
        raise FitError(f"{file}: holds a {network.backbone}, not --backbone {options.backbone}; leave that out")
    return network


def _fresh_network(options: FitOptions, say: Say) -> DBNet:
    backbone = options.backbone or "resnet18"
    if options.init == IMAGENET:
        if backbone == "resnet18":
            raise FitError("--init imagenet: not for resnet18; leave --init out to start from the shipped weights")
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(DOWNLOAD_SECONDS)
        try:
            return build_network(backbone, width=options.width, pretrained=True)
        except (OSError, RuntimeError) as error:  # no network; a download cut off, or of another file
            say(f"ImageNet weights could not be downloaded ({error}): starting from random ones, give it more epochs")
        finally:
            socket.setdefaulttimeout(before)
        torch.manual_seed(options.seed)
    return build_network(backbone, width=options.width)


def fit(options: FitOptions, run: Path, *, resume: bool = False, say: Say = print) -> dict[str, Any]:
    """Trains, validates every epoch, keeps the best and the last checkpoint.

    Writes RUN/config.json, last.pt, best.pt (by validation hmean; the last one without validation data) with its card
    best.json, metrics.csv and curve.png.

    Args:
        options: of the run; with ``resume`` those saved in RUN/config.json should be given.
        run: folder of the run.
        resume: go on from RUN/last.pt.
        say: gets lines for the user.

    Returns:
        The last row of the metrics.

    Raises:
        DetectorError: one line.
    """
    run.mkdir(parents=True, exist_ok=True)
    if resume and options.device == "cuda" and not torch.cuda.is_available():
        say("torch sees no CUDA device here: going on with the CPU")
        options = replace(options, device="cpu", amp=options.amp and has_fast_half("cpu"))
    if not (resume and (run / CONFIG).is_file()):
        with atomic_write(run / CONFIG, sync=True) as unfinished:
            unfinished.write_text(json.dumps(asdict(options), indent=2) + "\n", encoding="utf-8")
    saved = run / LAST if resume and (run / LAST).is_file() else None
    network = start_network(options, saved, say)
    groups, samples = _groups(options, run, say), held_out(Path(options.data))
    config = make_config(options, len(groups[0][1]), network)
    trainer = Trainer(config, network=network)
    trainer.notes = {
        "history": [],
        "loss": 0.0,
        "data": fingerprint(groups),
        "thresholds": asdict(_thresholds(options)),
    }
    if saved:
        mine = trainer.notes["data"]
        trainer.restore(saved)
        if trainer.notes.get("data") != mine:
            raise FitError(f"{options.data}: the training pages changed since {run} was begun; start a new run with -o")
    thresholds, history = saved_thresholds(trainer.notes), trainer.notes["history"]
    per_epoch = config.steps // options.epochs
    say(
        f"{len(groups[0][1])} training and {len(samples)} validation images, {config.steps} steps of "
        f"{options.batch_size} crops of {options.crop} px on {config.device}{' (half precision)' if config.amp else ''}"
    )
    if not samples:
        say(f"{options.data}: has no val_* or test_*: nothing is validated, and best.pt is the last checkpoint")
    if saved:
        say(f"going on after step {trainer.step}")
    if not history and samples:
        _note(trainer, run, say, {"epoch": 0, "step": 0, **_score(trainer, samples, options.limit_side, thresholds)})
    started, first = time.monotonic(), trainer.step
    said, kept = started, started
    for progress in trainer.run(BatchSource(groups, options.seed)):
        trainer.notes["loss"] += progress.loss
        at_end, now = progress.step % per_epoch == 0, time.monotonic()
        if at_end or now - said > SAY_SECONDS:
            said = now
            left = (now - started) / (progress.step - first) * (config.steps - progress.step)
            say(f"step {progress.step}/{config.steps}  loss {progress.loss:.3f}  {_clock(left)} left")
        if at_end:
            loss = round(trainer.notes["loss"] / per_epoch, 5)
            trainer.notes["loss"] = 0.0
            row = {"epoch": progress.step // per_epoch, "step": progress.step, "loss": loss}
            row |= _score(trainer, samples, options.limit_side, thresholds) if samples else {}
            best = max((past.get("hmean", -1.0) for past in history if past["epoch"]), default=-1.0)
            _note(trainer, run, say, row)
            if row.get("hmean", math.inf) > best:
                trainer.save(run / BEST)
                _write_card(run / CARD, trainer, options, row)
        if at_end or now - kept > SAVE_SECONDS:
            kept = now
            trainer.save(run / LAST)
    _sum_up(history, say)
    return history[-1] if history else {}


def fingerprint(groups: list[tuple[float, list[TrainingPage]]]) -> str:
    """Tells whether a run goes on with the pages it was begun with: hex digest of their names and ground truth."""
    digest = hashlib.sha256()
    for _, pages in groups:
        for page in pages:
            digest.update(page.image.name.encode() + page.quads.tobytes() + page.ignore.tobytes())
    return digest.hexdigest()


def saved_thresholds(notes: dict[str, Any]) -> Thresholds:
    """Box thresholds of a run; checkpoints before 0.2 call them "rules"."""
    return Thresholds(**(notes["thresholds"] if "thresholds" in notes else notes["rules"]))


def _thresholds(options: FitOptions) -> Thresholds:
    """Box thresholds of the weights that training starts from, so that scores before and after compare."""
    return load_card(Path(options.init)).thresholds if options.init not in ("", IMAGENET) else Thresholds()


def _write_card(path: Path, trainer: Trainer, options: FitOptions, row: dict[str, Any]) -> None:
    """What detect, evaluate and export need to know about best.pt beside its weights."""
    scores = {f"val @{options.limit_side}": row["hmean"]} if "hmean" in row else {}
    facts = {
        "name": path.parent.resolve().name,
        "backbone": trainer.network.backbone,
        "width": trainer.network.width,
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        **asdict(saved_thresholds(trainer.notes)),
        "scores": scores,
    }
    with atomic_write(path, sync=True) as unfinished:
        unfinished.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _score(trainer: Trainer, samples: list[Sample], limit_side: int, thresholds: Thresholds) -> dict[str, float]:
    counts = validate(trainer.average, samples, limit_side, thresholds)
    return {name: round(getattr(counts, name), 4) for name in ("precision", "recall", "hmean")}


def _note(trainer: Trainer, run: Path, say: Say, row: dict[str, Any]) -> None:
    trainer.notes["history"].append(row)
    write_history(trainer.notes["history"], run)
    say("  ".join(f"{name} {row[name]}" for name in COLUMNS if name in row))


def _sum_up(history: list[dict[str, Any]], say: Say) -> None:
    scores = {row["epoch"]: row["hmean"] for row in history if "hmean" in row}
    start = scores.pop(0, None)
    if start is None or not scores:
        return
    best = max(scores, key=lambda epoch: scores[epoch])
    gain = 100 * (scores[best] - start)
    say(f"validation hmean {start:.4f} before, {scores[best]:.4f} after epoch {best} ({gain:+.1f} points)")
    if gain <= 0:
        say("no epoch was better than the start: try a smaller --lr, more --epochs, or more pages")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
