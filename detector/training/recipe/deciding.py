"""The pages on which box thresholds are chosen: never the validation splits, which are for reports.

Thirty validation photos leave a score anywhere between .70 and .93, and the best of many looks at them is .04 too high.
"""

from __future__ import annotations

from pathlib import Path

from detector.evaluation.annotations import has_split
from detector.training.held_out import split_series
from detector.training.recipe.choose_thresholds import ValidationSet
from detector.training.recipe.data_mix import samples_of
from detector.training.recipe.trend import SIDE, agreement_photos, agreement_samples

DOCUMENTS = {"funsd": (640, 1280), "sroie": (640, 1280)}  # the profiles' smallest size, and what small print needs
PAGES = 50  # of each set of documents: training pages, for there are no others; photos weigh as much as they do
PHOTO_WEIGHT = 2.0


def deciding_sets(data: Path, run: Path) -> list[ValidationSet]:
    """Held-out photos with ground truth, held-out sources with the teacher's boxes, training documents.

    Args:
        data: see `data_mix`.
        run: where the teacher's maps are; photos without one take no part.
    """
    sets = []
    if has_split(data / "td500", "train") and (held := split_series(data / "td500")[1]):
        sets.append(ValidationSet(f"td500 held-out @{SIDE}", held, SIDE, PHOTO_WEIGHT))
    if agreed := agreement_samples(agreement_photos(data, run, None)):
        sets.append(ValidationSet(f"agreement held-out @{SIDE}", agreed, SIDE, PHOTO_WEIGHT))
    for name, sides in DOCUMENTS.items():
        if samples := samples_of(data, name):
            some = samples[:: max(1, len(samples) // PAGES)]
            sets += [ValidationSet(f"{name} train @{side}", some, side) for side in sides]
    return sets
