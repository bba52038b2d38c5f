"""The thresholds of box formation, chosen on held-out pages by trying a grid of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.evaluation.annotations import Sample
from detector.evaluation.metrics import Counts, evaluate_image
from detector.images.page import open_page
from detector.postprocess import find_boxes
from detector.predictor import TextDetector
from detector.thresholds import Thresholds

BINARIZE = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65)
BOX_THRESHOLD = (0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85)
UNCLIP = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
AS_GOOD = 0.002
"""Of thresholds whose mean hmean lies this close to the best, the strictest is taken: fewer false boxes elsewhere."""

PHOTO_SIDE = 640
"""Longest side at which pictures without text are looked at, pixels."""

FALSE_BOXES = 0.1
"""A picture without text may give so many boxes on average; thresholds that give more are left out if any give
fewer."""


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """Held-out pages and the size at which they count.

    Attributes:
        label: such as "td500 val @640".
        samples: images with ground truth.
        limit_side: longest side shown to the network, pixels.
        weight: of its hmean among others'.
    """

    label: str
    samples: Sequence[Sample]
    limit_side: int
    weight: float = 1.0


def grid() -> list[Thresholds]:
    """All thresholds that are tried."""
    return [Thresholds(b, t, u) for b, t, u in itertools.product(BINARIZE, BOX_THRESHOLD, UNCLIP)]


def count(detector: TextDetector, pages: ValidationSet, tried: Iterable[Thresholds]) -> dict[Thresholds, Counts]:
    """Hits and misses by each of the thresholds; the network runs once a page.

    Raises:
        ImageError: an image cannot be opened.
        AnnotationError: a ground-truth file cannot be read.
    """
    tried = list(tried)
    counts = {thresholds: Counts() for thresholds in tried}
    lowest = min(thresholds.box_threshold for thresholds in tried)
    for sample in pages.samples:
        page, regions = open_page(sample.image, limit_side=pages.limit_side), sample.regions()
        found = detector.probability(page.pixels)
        truth = [np.array(region.points) for region in regions]
        ignore = [region.ignore for region in regions]
        scale = (page.width / found.shape[1], page.height / found.shape[0])
        for binarize, unclip in sorted({(thresholds.binarize, thresholds.unclip_ratio) for thresholds in tried}):
            loose = Thresholds(binarize, lowest, unclip)
            boxes = find_boxes(found, scale, (page.width, page.height), loose)
            for thresholds in tried:
                if (thresholds.binarize, thresholds.unclip_ratio) == (binarize, unclip):
                    kept = [np.array(box.points) for box in boxes if box.score >= thresholds.box_threshold]
                    counts[thresholds] += evaluate_image(truth, ignore, kept)
    return counts


def count_false(
    detector: TextDetector, photos: Sequence[Path], limit_side: int, tried: Iterable[Thresholds]
) -> dict[Thresholds, float]:
    """Boxes a picture by each of the thresholds, on pictures without text.

    Raises:
        ImageError: an image cannot be opened.
    """
    tried = list(tried)
    boxes = dict.fromkeys(tried, 0)
    for photo in photos:
        found = detector.probability(open_page(photo, limit_side=limit_side).pixels)
        size = (found.shape[1], found.shape[0])
        for thresholds in tried:
            boxes[thresholds] += len(find_boxes(found, (1.0, 1.0), size, thresholds))
    return {thresholds: count / max(1, len(photos)) for thresholds, count in boxes.items()}


def choose(means: Mapping[Thresholds, float], false: Mapping[Thresholds, float]) -> Thresholds:
    """Of the thresholds with few false boxes, the strictest of those within AS_GOOD of the best mean hmean.

    Args:
        means: mean hmean by thresholds.
        false: false boxes a picture without text by the same thresholds; those not in it count as 0.
    """
    fewest = min((false.get(thresholds, 0.0) for thresholds in means), default=0.0)
    allowed = [thresholds for thresholds in means if false.get(thresholds, 0.0) <= max(FALSE_BOXES, fewest)]
    best = max(means[thresholds] for thresholds in allowed)
    good = [thresholds for thresholds in allowed if means[thresholds] >= best - AS_GOOD]
    return max(good, key=lambda thresholds: (thresholds.box_threshold, thresholds.binarize, means[thresholds]))


def choose_thresholds(detector: TextDetector, sets: Sequence[ValidationSet], photos: Sequence[Path] = ()) -> Thresholds:
    """The thresholds with the best mean hmean over the sets by their weights; the model's own without any set.

    Args:
        detector: the model that is to be shipped.
        sets: held-out pages.
        photos: pictures without text, which the thresholds must leave (nearly) empty.
    """
    if not sets:
        return detector.thresholds
    tried = grid()
    found = [count(detector, pages, tried) for pages in sets]
    weights = [pages.weight for pages in sets]
    means = {
        thresholds: float(np.average([counts[thresholds].hmean for counts in found], weights=weights))
        for thresholds in tried
    }
    return choose(means, count_false(detector, photos, PHOTO_SIDE, tried))
