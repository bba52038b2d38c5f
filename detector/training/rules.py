"""The rules of box formation, chosen on validation pages by trying a grid of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detector.annotations import Sample
from detector.image import open_page
from detector.metrics import Counts, evaluate_image
from detector.postprocess import Rules, find_boxes
from detector.predictor import TextDetector

BINARIZE = (0.25, 0.3, 0.35, 0.4)
BOX_THRESHOLD = (0.45, 0.5, 0.55, 0.6)
UNCLIP = (1.3, 1.4, 1.5, 1.6, 1.7)
AS_GOOD = 0.002
"""Of rules whose mean hmean lies this close to the best, the strictest is taken: fewer false boxes elsewhere."""


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """Held-out pages and the size at which they count.

    Attributes:
        label: such as "td500 val @640".
        samples: images with ground truth.
        limit_side: longest side shown to the network, pixels.
    """

    label: str
    samples: Sequence[Sample]
    limit_side: int


def grid() -> list[Rules]:
    """All rules that are tried."""
    return [Rules(b, t, u) for b, t, u in itertools.product(BINARIZE, BOX_THRESHOLD, UNCLIP)]


def count(detector: TextDetector, pages: ValidationSet, tried: Iterable[Rules]) -> dict[Rules, Counts]:
    """Hits and misses by each of the rules; the network runs once a page.

    Raises:
        DetectorError: an image cannot be opened.
        AnnotationError: a ground-truth file cannot be read.
    """
    tried = list(tried)
    counts = {rules: Counts() for rules in tried}
    lowest = min(rules.box_threshold for rules in tried)
    for sample in pages.samples:
        page, regions = open_page(sample.image, limit_side=pages.limit_side), sample.regions()
        found = detector.probability(page.pixels)
        truth = [np.array(region.points) for region in regions]
        ignore = [region.ignore for region in regions]
        scale = (page.width / found.shape[1], page.height / found.shape[0])
        for binarize, unclip in sorted({(rules.binarize, rules.unclip_ratio) for rules in tried}):
            loose = Rules(binarize, lowest, unclip)
            boxes = find_boxes(found, scale, (page.width, page.height), loose)
            for rules in tried:
                if (rules.binarize, rules.unclip_ratio) == (binarize, unclip):
                    kept = [np.array(box.points) for box in boxes if box.score >= rules.box_threshold]
                    counts[rules] += evaluate_image(truth, ignore, kept)
    return counts


def choose(means: Mapping[Rules, float]) -> Rules:
    """The strictest of those within AS_GOOD of the best mean hmean."""
    best = max(means.values())
    good = [rules for rules, mean in means.items() if mean >= best - AS_GOOD]
    return max(good, key=lambda rules: (rules.box_threshold, rules.binarize, means[rules]))


def choose_rules(detector: TextDetector, sets: Sequence[ValidationSet]) -> Rules:
    """The rules with the best mean hmean over the sets, each counting the same; the model's own without any set."""
    if not sets:
        return detector.rules
    tried = grid()
    found = [count(detector, pages, tried) for pages in sets]
    return choose({rules: float(np.mean([counts[rules].hmean for counts in found])) for rules in tried})
