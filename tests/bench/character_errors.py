"""Character error rates of read pages against ground truth with text: by line, and of the whole page in its order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from detector.reading.order import reading_order

Quad = Sequence[Sequence[float]]
ON_LINE = 0.5
"""A box belongs to the line of the ground truth that covers most of it, if that is at least this share."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Counts, which add up over pages.

    Attributes:
        errors: insertions, deletions and changes, characters.
        length: of the ground truth, characters.
    """

    errors: int = 0
    length: int = 0

    def __add__(self, other: Rate) -> Rate:
        return Rate(self.errors + other.errors, self.length + other.length)

    @property
    def percent(self) -> float:
        return 100 * self.errors / max(1, self.length)


def plain(text: str) -> str:
    """Without spaces and case: sets differ in where they put a space."""
    return "".join(text.split()).casefold()


def edit_distance(first: str, second: str) -> int:
    """Levenshtein distance, a row at a time."""
    other = np.array([ord(char) for char in second], np.int64)
    steps = np.arange(len(other) + 1)
    row = steps.copy()
    for number, char in enumerate(first, 1):
        cost = np.empty_like(row)
        cost[0] = number
        cost[1:] = np.minimum(row[1:] + 1, row[:-1] + (other != ord(char)))
        # Insertions run along the row: the least of (cost at j) + (i - j) over all j up to i.
        row = np.minimum.accumulate(cost - steps) + steps
    return int(row[-1])


def by_line(truth: Sequence[tuple[Quad, str]], boxes: Sequence[Quad], texts: Sequence[str]) -> Rate:
    """Every line of the ground truth beside the boxes on it, from left to right. Boxes on no line are passed over:
    neither set has all that is on its pages."""
    lines = shapely.polygons([np.asarray(quad, np.float64) for quad, _ in truth])
    on: dict[int, list[int]] = {}
    for number, box in enumerate(boxes):
        polygon = shapely.polygons(np.asarray(box, np.float64))
        shares = shapely.area(shapely.intersection(shapely.make_valid(polygon), shapely.make_valid(lines)))
        if len(shares) and shares.max() >= ON_LINE * max(polygon.area, 1e-6):
            on.setdefault(int(shares.argmax()), []).append(number)
    rate = Rate()
    for number, (_, text) in enumerate(truth):
        found = sorted(on.get(number, []), key=lambda box: min(x for x, _ in boxes[box]))
        wanted = plain(text)
        rate += Rate(edit_distance(wanted, plain("".join(texts[box] for box in found))), len(wanted))
    return rate


def in_order(
    truth: Sequence[tuple[Quad, str]], boxes: Sequence[Quad], texts: Sequence[str], truth_order: Sequence[int] = ()
) -> Rate:
    """The whole page's text, both in reading order.

    Args:
        truth: corners and text of the ground truth's lines.
        boxes: corners.
        texts: of the boxes.
        truth_order: the lines' numbers in the order in which they are read; by `reading_order` if not given.
    """
    wanted = plain("".join(truth[line][1] for line in truth_order or _sequence([quad for quad, _ in truth])))
    return Rate(edit_distance(wanted, plain("".join(texts[box] for box in _sequence(boxes)))), len(wanted))


def _sequence(quads: Sequence[Quad]) -> npt.NDArray[np.intp]:
    return np.argsort(reading_order(quads)) if len(quads) else np.zeros(0, np.intp)
