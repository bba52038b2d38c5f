"""How a long run fares on what is held out: photos with ground truth, and agreement with the teacher elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np
import torch

from detector.annotations import Sample, has_split
from detector.geometry import Points
from detector.metrics import Counts, evaluate_image
from detector.network.dbnet import DBNet
from detector.postprocess import Box, find_boxes
from detector.predictor import normalise
from detector.rules import Rules
from detector.suffixes import is_page
from detector.training.dataset import read_pixels
from detector.training.held_out import is_held_out, split_series
from detector.training.mix import TEACHER_RULES, cache_folder, read_map
from detector.training.teacher import CachedPage, Maps, cache_page, cached_page
from detector.training.validate import validate
from detector.weights import IMAGENET_MEAN, IMAGENET_STD

Kept = TypeVar("Kept")

SIDE = 640  # longest side at which student and teacher look
KEEP = 1024  # longest side of the copies that both look at
NAME = "agreement"  # folder of the copies in the cache
SUBSET = 60  # photos of each kind that are looked at in the course of a run


def agreement_photos(data: Path, run: Path, teacher: Maps | None) -> list[CachedPage]:
    """The photos of held-out sources with the teacher's maps at SIDE; without a teacher those that have one already."""
    files = sorted(f for f in (data / "scenes").glob("*") if is_page(PurePath(f.name)) and is_held_out(f))
    folder = cache_folder(run, NAME)
    if teacher is None:
        return [known for file in files if (known := cached_page(file, folder))]
    return [cache_page(file, folder, teacher, limits=(SIDE,), keep_side=KEEP) for file in files]


def corners(boxes: Iterable[Box]) -> list[Points]:
    """(4, 2) arrays."""
    return [np.array(box.points) for box in boxes]


def agreement(network: DBNet, photos: Sequence[CachedPage], rules: Rules) -> list[Counts]:
    """The student's boxes against the teacher's, photo by photo.

    Args:
        network: in any mode, which is left as it was.
        photos: with maps.
        rules: of the student's boxes.
    """
    training, counts = network.training, []
    network.eval()
    try:
        for photo in photos:
            known = read_map(photo.teacher)
            size = (known.shape[1], known.shape[0])
            pixels = read_pixels(photo.image, SIDE)[0]
            batch = torch.from_numpy(normalise(pixels, IMAGENET_MEAN, IMAGENET_STD))
            device = next(network.parameters()).device
            height, width = pixels.shape[:2]
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
                found = network(batch.to(device))[0, 0, :height, :width].float().cpu().numpy()
            scale = (size[0] / width, size[1] / height)
            mine = find_boxes(np.ascontiguousarray(found), scale, size, rules)
            truth = corners(find_boxes(known, (1.0, 1.0), size, TEACHER_RULES))
            counts.append(evaluate_image(truth, [False] * len(truth), corners(mine)))
    finally:
        network.train(training)
    return counts


@dataclass(frozen=True, slots=True)
class Trend:
    """What is looked at every so many steps.

    Attributes:
        photos: held-out samples with ground truth.
        unlabelled: photos of held-out sources with the teacher's maps.
        rules: of the student's boxes.
    """

    photos: Sequence[Sample]
    unlabelled: Sequence[CachedPage]
    rules: Rules

    def line(self, network: DBNet) -> str:
        """Scores of a network in words."""
        with torch.autocast(next(network.parameters()).device.type, torch.bfloat16):
            held = validate(network, self.photos, SIDE, self.rules)
        agreed = sum(agreement(network, self.unlabelled, self.rules), Counts())
        return (
            f"held-out td500 @{SIDE} {held.hmean:.3f} (p {held.precision:.3f} r {held.recall:.3f}, "
            f"{len(self.photos)} photos)  agreement {agreed.hmean:.3f} (p {agreed.precision:.3f} "
            f"r {agreed.recall:.3f}, {len(self.unlabelled)} photos)"
        )


def make_trend(data: Path, run: Path, teacher: Maps | None, rules: Rules) -> Trend | None:
    """What of it is there; None if nothing is."""
    photos = split_series(data / "td500")[1] if has_split(data / "td500", "train") else []
    unlabelled = agreement_photos(data, run, teacher)
    if not photos and not unlabelled:
        return None
    return Trend(some(photos), some(unlabelled), rules)


def some(photos: Sequence[Kept]) -> Sequence[Kept]:
    """About SUBSET of them, spread evenly."""
    return photos[:: max(1, round(len(photos) / SUBSET))]
