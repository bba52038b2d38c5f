"""The ICDAR 2015 IoU protocol written a second time, sharing nothing with `detector.evaluation.metrics`.

No shapely, no numpy, no floats: areas come from cutting two outlines into vertical slabs in which no edges cross, in
exact fractions, inside and outside told apart by counting edges (even-odd, as in the organisers' polygon library). The
rules are those of the organisers' script for challenge 4, task 1: loops over all pairs in the order of the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations, pairwise

HALF = Fraction(1, 2)
Outline = list[tuple[Fraction, Fraction]]
Edge = tuple[Fraction, Fraction, Fraction, Fraction]


def outline(points: Sequence[Sequence[float]]) -> Outline:
    return [(Fraction(float(x)), Fraction(float(y))) for x, y in points]


def _edges(shape: Outline) -> list[Edge]:
    """Edges from left to right; upright ones bound no slab."""
    edges = []
    for (x0, y0), (x1, y1) in zip(shape, [*shape[1:], shape[0]], strict=True):
        if x0 != x1:
            edges.append((x0, y0, x1, y1) if x0 < x1 else (x1, y1, x0, y0))
    return edges


def _height(edge: Edge, x: Fraction) -> Fraction:
    x0, y0, x1, y1 = edge
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _crossing(one: Edge, other: Edge) -> Iterator[Fraction]:
    left, right = max(one[0], other[0]), min(one[2], other[2])
    if left < right:
        before, after = _height(one, left) - _height(other, left), _height(one, right) - _height(other, right)
        if before * after < 0:
            yield left + (right - left) * before / (before - after)


def _spans(edges: list[Edge], x: Fraction) -> list[tuple[Fraction, Fraction]]:
    heights = sorted(_height(edge, x) for edge in edges if edge[0] < x < edge[2])
    return list(zip(heights[::2], heights[1::2], strict=True))


def shared_area(one: Outline, other: Outline) -> Fraction:
    """The area inside both."""
    first, second = _edges(one), _edges(other)
    cuts = {x for x, _ in one + other}
    for pair in combinations(first + second, 2):
        cuts.update(_crossing(*pair))
    total = Fraction(0)
    for left, right in pairwise(sorted(cuts)):
        middle = (left + right) / 2  # lengths change linearly within a slab: the middle is the mean
        for low, high in _spans(first, middle):
            for bottom, top in _spans(second, middle):
                total += max(Fraction(0), min(high, top) - max(low, bottom)) * (right - left)
    return total


def overlap(one: Outline, other: Outline) -> Fraction:
    """Intersection over union; 0 for two things without area."""
    common = shared_area(one, other)
    union = shared_area(one, one) + shared_area(other, other) - common
    return common / union if union else Fraction(0)


def share_inside(found: Outline, region: Outline) -> Fraction:
    """How much of a detection's own area lies in a region."""
    area = shared_area(found, found)
    return shared_area(found, region) / area if area else Fraction(0)


def count(
    truth: list[Outline], ignored: Sequence[bool], found: list[Outline], threshold: Fraction = HALF
) -> tuple[int, int, int]:
    """(matched, ground truth that counts, detections that count) of one image."""
    not_counted = set()
    for number, detection in enumerate(found):
        for region, ignore in zip(truth, ignored, strict=True):
            if ignore and share_inside(detection, region) > HALF:
                not_counted.add(number)
                break
    used: set[int] = set()
    matched = 0
    for region, ignore in zip(truth, ignored, strict=True):
        if ignore:
            continue
        for number, detection in enumerate(found):
            if number not in used and number not in not_counted and overlap(region, detection) > threshold:
                used.add(number)
                matched += 1
                break
    return matched, sum(not ignore for ignore in ignored), len(found) - len(not_counted)


def quality(counts: Sequence[tuple[int, int, int]]) -> tuple[float, float, float]:
    """Precision, recall and hmean of many images together, as the script's method-level result."""
    matched, truth, found = (sum(image[column] for image in counts) for column in range(3))
    recall = 0.0 if truth == 0 else matched / truth
    precision = 0.0 if found == 0 else matched / found
    both = precision + recall
    return precision, recall, 0.0 if both == 0 else 2.0 * precision * recall / both
