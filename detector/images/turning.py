"""Pages on their side: recognised by their own boxes, and looked at once more, turned.

The network learned lines that run from left to right. Of a page turned by 90 degrees it finds a half to two thirds,
with lower scores; upside down it finds 99 %. So one turn in either direction is enough.

Chosen on half of the training pages of FUNSD and SROIE, upright and turned; the other half, and 150 other documents,
say what it is worth (tests/bench/bench_turned.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detector.postprocess import Box

ELONGATED = 1.5
"""A box this much longer one way than the other has a direction."""

LEAST_TALL = 3
"""Boxes from top to bottom that make a page lie on its side. A photo of one vertical sign has fewer."""

LEAST_SHARE = 0.5
"""Of the length of all boxes that have a direction, that of those from top to bottom. Upright forms and receipts have
at most 0.07, turned ones at least 0.47."""

MANY_MORE = 1.5
"""A look that finds this many times the boxes is better whatever their scores."""


def lies_on_its_side(boxes: Sequence[Box]) -> bool:
    """Whether most lines of a page run from top to bottom."""
    tall = wide = 0.0
    count = 0
    for box in boxes:
        xs, ys = [x for x, _ in box.points], [y for _, y in box.points]
        across, down = max(xs) - min(xs), max(ys) - min(ys)
        if down > ELONGATED * across:
            tall += down
            count += 1
        elif across > ELONGATED * down:
            wide += across
    return count >= LEAST_TALL and tall >= LEAST_SHARE * (tall + wide)


def reads_better(turned: Sequence[Box], first: Sequence[Box]) -> bool:
    """Whether the look at the turned page is to be kept: more certain boxes, or many more of them."""
    if not turned:
        return False
    if len(turned) >= MANY_MORE * len(first):
        return True
    surer = fmean(box.score for box in turned) > fmean(box.score for box in first)
    return surer and not math.ceil(MANY_MORE * len(turned)) <= len(first)
