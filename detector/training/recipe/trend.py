"""How a long run fares on what is held out: photos with ground truth, and agreement with the teacher elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeVar

import torch

from detector.atomic import atomic_write
from detector.evaluation.annotations import Sample, has_split
from detector.images.suffixes import is_page
from detector.network.dbnet import DBNet
from detector.thresholds import Thresholds
from detector.training.held_out import is_held_out, split_series
from detector.training.recipe.data_mix import cache_folder, teacher_quads
from detector.training.teacher import CachedPage, Maps, cache_page, cached_page
from detector.training.validate import validate

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


def agreement_samples(photos: Sequence[CachedPage]) -> list[Sample]:
    """The same with the teacher's boxes as ground truth, in files beside the copies: hmean is then the agreement."""
    samples = []
    for photo in photos:
        rows = [",".join(f"{value:.1f}" for value in quad.ravel()) + ",text" for quad in teacher_quads(photo)]
        annotation = photo.image.with_suffix(".txt")
        with atomic_write(annotation) as part:
            part.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        samples.append(Sample(photo.image, annotation))
    return samples


@dataclass(frozen=True, slots=True)
class Trend:
    """What is looked at every so many steps.

    Attributes:
        photos: held-out samples with ground truth.
        unlabelled: photos of held-out sources with the teacher's boxes.
        thresholds: of the student's boxes.
    """

    photos: Sequence[Sample]
    unlabelled: Sequence[Sample]
    thresholds: Thresholds

    def line(self, network: DBNet) -> str:
        """Scores of a network in words."""
        said = []
        for name, samples in (("held-out td500", self.photos), ("agreement", self.unlabelled)):
            with torch.autocast(next(network.parameters()).device.type, torch.bfloat16):
                found = validate(network, samples, SIDE, self.thresholds)
            parts = f"p {found.precision:.3f} r {found.recall:.3f}, {len(samples)} photos"
            said.append(f"{name} @{SIDE} {found.hmean:.3f} ({parts})")
        return "  ".join(said)


def make_trend(data: Path, run: Path, teacher: Maps | None, thresholds: Thresholds) -> Trend | None:
    """What of it is there; None if nothing is."""
    photos = split_series(data / "td500")[1] if has_split(data / "td500", "train") else []
    unlabelled = agreement_samples(some(agreement_photos(data, run, teacher)))
    return Trend(some(photos), unlabelled, thresholds) if photos or unlabelled else None


def some(photos: Sequence[Kept]) -> Sequence[Kept]:
    """About SUBSET of them, spread evenly."""
    return photos[:: max(1, round(len(photos) / SUBSET))]
