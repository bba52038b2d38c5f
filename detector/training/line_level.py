"""The recipe of the shipped line-level weights, from data folders and a teacher to a checkpoint.

    python -m detector.training.line_level DATA TEACHER.onnx RUN --init WEIGHTS.safetensors --steps 20000

DATA holds ICDAR-style folders td500, sroie, funsd (line ground truth), ic15, mlt17 (words: there the teacher's map
is the target), and plain folders of images: more (unlabelled photos with text) and backgrounds (photos mostly
without). What is absent is left out. Maps, synthetic pages and checkpoints are kept in RUN; the same command goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from detector.annotations import Sample, has_split, read_split
from detector.network.build import read_state
from detector.postprocess import Rules, find_boxes
from detector.training.dataset import BatchSource, TrainingPage, page_from_sample
from detector.training.synth import render
from detector.training.teacher import CachedPage, Teacher, cache_page
from detector.training.trainer import Phase, TrainConfig, Trainer

TEACHER_RULES = Rules(binarize=0.3, box_threshold=0.6, unclip_ratio=1.5)
# name: (weight in the mix, kind of view, teacher's map is the target, teacher's sizes, long side kept)
LABELLED = {
    "td500": (3.0, "scene", False, (960, 736), 1024),
    "sroie": (1.4, "document", False, (1280,), 1280),
    "funsd": (1.2, "document", False, (1280,), 1280),
    "ic15": (1.0, "scene", True, (960, 736), 1024),
    "mlt17": (2.0, "scene", True, (960, 736), 1024),
}
UNLABELLED = {"more": (4.0, (960, 736), 1024), "backgrounds": (0.9, (640,), 640)}
SYNTHETIC = {"scene": 4.5, "document": 1.3}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
TEXT_FREE = 0.25  # a photo on which the teacher's map stays below this serves as background for synthetic scenes


def read_map(path: Path) -> np.ndarray:
    """(H, W) float32 in [0, 1] of a cached 8-bit map.

    Raises:
        ValueError: not an image.
    """
    stored = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if stored is None:
        raise ValueError(f"{path}: cannot be decoded; delete it to have it made again")
    return stored.astype(np.float32) / 255


def teacher_quads(cached: CachedPage) -> np.ndarray:
    """(N, 4, 2) float32 boxes of the cached map."""
    known = read_map(cached.teacher)
    boxes = find_boxes(known, (1.0, 1.0), (known.shape[1], known.shape[0]), TEACHER_RULES)
    return np.array([box.points for box in boxes], np.float32).reshape(-1, 4, 2)


def soft_page(cached: CachedPage, words: np.ndarray | None = None) -> TrainingPage:
    """A page whose target is the teacher's map; words of its own ground truth are don't-care where it sees none."""
    lines = teacher_quads(cached)
    extra = np.zeros((0, 4, 2), np.float32) if words is None else words
    ignore = np.repeat([False, True], [len(lines), len(extra)])
    return TrainingPage(cached.image, np.concatenate([lines, extra]), ignore, cached.teacher, soft=True, kind="scene")


def labelled_pages(
    samples: Iterable[Sample], folder: Path, teacher: Teacher, kind: str, soft: bool, limits: tuple[int, ...], keep: int
) -> list[TrainingPage]:
    """Pages of an ICDAR-style set, with the teacher's maps cached in ``folder``."""
    pages = []
    for sample in samples:
        cached = cache_page(sample.image, folder, teacher, limits=limits, keep_side=keep)
        own = page_from_sample(sample, kind)
        quads = (own.quads * cached.scale).astype(np.float32)
        if soft:
            pages.append(soft_page(cached, quads))
        else:
            pages.append(TrainingPage(cached.image, quads, own.ignore, cached.teacher, kind=kind))
    return pages


def collect(data: Path, run: Path, teacher: Teacher, synthetic: int) -> list[tuple[float, list[TrainingPage]]]:
    """All groups of the mix with their weights."""
    groups: list[tuple[float, list[TrainingPage]]] = []
    for name, (weight, kind, soft, limits, keep) in LABELLED.items():
        if has_split(data / name, "train"):
            samples = read_split(data / name, "train")
            groups.append((weight, labelled_pages(samples, run / "cache" / name, teacher, kind, soft, limits, keep)))
    text_free: list[Path] = []
    for name, (weight, limits, keep) in UNLABELLED.items():
        files = sorted(file for file in (data / name).glob("*") if file.suffix in IMAGE_SUFFIXES)
        cached = [cache_page(file, run / "cache" / name, teacher, limits=limits, keep_side=keep) for file in files]
        if name == "backgrounds":
            text_free = [page.image for page in cached if read_map(page.teacher).max() < TEXT_FREE]
        groups.append((weight, [soft_page(page) for page in cached]))
    if synthetic:
        render(run / "synthetic", range(synthetic), text_free)
        drawn = read_split(run / "synthetic", "train")
        for kind, weight in SYNTHETIC.items():
            groups.append((weight, [page_from_sample(s, kind) for s in drawn if s.image.name.startswith(kind)]))
    return [(weight, pages) for weight, pages in groups if pages]


def make_config(steps: int, lr: float, threads: int) -> TrainConfig:
    """Small crops first, larger ones at the end, a long cosine fall."""
    phases: Sequence[Phase] = (Phase(0.6, 384, 6), Phase(0.85, 512, 4), Phase(1.0, 640, 3))
    return TrainConfig(steps=steps, phases=tuple(phases), lr=lr, cooldown=0.6, ema=0.998, threads=threads)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m detector.training.line_level", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--init", type=Path, help="weights to start from")
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--lr", type=float, default=7e-4)
    parser.add_argument("--synthetic", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    options.run.mkdir(parents=True, exist_ok=True)
    groups = collect(options.data, options.run, Teacher(options.teacher, threads=options.threads), options.synthetic)
    for weight, pages in groups:
        print(f"weight {weight}: {len(pages)} pages, such as {pages[0].image}")
    config = make_config(options.steps, options.lr, options.threads)
    trainer = Trainer(config, read_state(options.init) if options.init else None)
    last = options.run / "last.pt"
    if last.is_file():
        trainer.restore(last)
    started, first = time.monotonic(), trainer.step
    for progress in trainer.run(BatchSource(groups, config.seed)):
        if progress.step % 50 == 0:
            pace = (progress.step - first) / (time.monotonic() - started)
            terms = "  ".join(f"{name} {value:.3f}" for name, value in progress.terms.items())
            print(f"{progress.step}/{config.steps}  {terms}  lr {progress.rate:.1e}  {pace:.2f} steps/s", flush=True)
        if progress.step % config.save_every == 0:
            trainer.save(last)
    trainer.save(last)


if __name__ == "__main__":
    main()
