"""`detector.evaluation.metrics` against a second, independent implementation of the protocol (icdar_reference)."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from detector.evaluation.metrics import Counts, evaluate_image
from tests.detector.evaluation import icdar_reference as reference

Quad = list[tuple[float, float]]
Scene = tuple[list[Quad], list[bool], list[Quad]]
NEAR = Fraction(1, 10**9)
THRESHOLDS = (0.5, 0.3, 0.75)


def box(left: float, top: float, right: float, bottom: float) -> Quad:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def turned(quad: Quad, degrees: float) -> Quad:
    x0, y0 = (sum(axis) / 4 for axis in zip(*quad, strict=True))
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [(x0 + (x - x0) * cos - (y - y0) * sin, y0 + (x - x0) * sin + (y - y0) * cos) for x, y in quad]


def ours(scene: Scene, threshold: float = 0.5) -> Counts:
    truth, ignored, found = scene
    arrays = [[np.array(quad, dtype=float) for quad in quads] for quads in (truth, found)]
    return evaluate_image(arrays[0], ignored, arrays[1], threshold)


def theirs(scene: Scene, threshold: float = 0.5) -> tuple[int, int, int]:
    truth, ignored, found = scene
    shapes = [[reference.outline(quad) for quad in quads] for quads in (truth, found)]
    return reference.count(shapes[0], ignored, shapes[1], Fraction(threshold))


def agree(scenes: list[Scene]) -> None:
    for threshold in THRESHOLDS:
        mine = [ours(scene, threshold) for scene in scenes]
        other = [theirs(scene, threshold) for scene in scenes]
        assert [(counts.matched, counts.gt, counts.det) for counts in mine] == other
        total = sum(mine, Counts())
        expected = reference.quality(other)
        assert (total.precision, total.recall, total.hmean) == pytest.approx(expected, abs=1e-6)


LINE, BELOW = box(10, 10, 110, 30), box(10, 40, 110, 60)
CROSSED = [(0, 0), (10, 10), (10, 0), (0, 10)]
SPIKE = [(0, 0), (10, 0), (20, 0), (5, 8)]  # a corner on the straight line between two others
OUT_AND_BACK = [(0, 0), (20, 0), (10, 0), (5, 8)]  # an edge that returns on itself
FLAT = [(0, 0), (10, 0), (10, 0), (0, 0)]
POINT = [(5, 5)] * 4
ARROW = [(0, 0), (20, 10), (0, 20), (5, 10)]  # not convex
CASES: dict[str, Scene] = {
    "nothing at all": ([], [], []),
    "empty image, false box": ([], [], [LINE]),
    "no detections": ([LINE, BELOW], [False, True], []),
    "only do-not-care text": ([LINE], [True], [LINE, BELOW]),
    "exact": ([LINE, BELOW], [False, False], [BELOW, LINE]),
    "twice the same detection": ([LINE], [False], [LINE, LINE, LINE]),
    "twice the same truth": ([LINE, LINE], [False, False], [LINE]),
    "truth in two pieces": ([LINE], [False], [box(10, 10, 61, 30), box(61, 10, 110, 30)]),
    "exactly half": ([box(0, 0, 10, 10)], [False], [box(0, 0, 10, 20)]),
    "a little over half": ([box(0, 0, 10, 10)], [False], [box(0, 0, 10, 19.99)]),
    "exactly half in do-not-care": ([box(0, 0, 10, 10)], [True], [box(5, 0, 15, 10)]),
    "a little more in do-not-care": ([box(0, 0, 10, 10)], [True], [box(4.99, 0, 14.99, 10)]),
    # Two thirds lie in do-not-care text, but in no single piece of it more than half: it counts.
    "half in two pieces of do-not-care": (
        [box(0, 0, 10, 30), box(20, 0, 30, 30)],
        [True, True],
        [box(0, 10, 30, 20)],
    ),
    # The detection is right *and* mostly in do-not-care text: do-not-care wins, and the truth is missed.
    "truth under do-not-care": ([LINE, box(0, 0, 200, 50)], [False, True], [LINE]),
    "the first pair wins, not the best": (
        [box(0, 0, 10, 10), box(0, 4, 10, 14)],
        [False, False],
        [box(0, 1, 10, 11), box(0, 0, 10, 10)],
    ),
    "counter-clockwise": ([LINE[::-1]], [False], [LINE]),
    "crossed corners": ([CROSSED, LINE], [False, True], [CROSSED]),
    "crossed corners do not care": ([CROSSED], [True], [box(0, 0, 10, 10), box(7, 3, 10, 7)]),
    "a corner on an edge": ([SPIKE], [False], [box(0, 0, 20, 8), [(0, 0), (20, 0), (5, 8), (5, 8)]]),
    "an edge there and back": ([OUT_AND_BACK, LINE], [False, True], [OUT_AND_BACK, [(0, 0), (10, 0), (5, 8), (5, 8)]]),
    "there and back in do-not-care": ([OUT_AND_BACK], [True], [[(0, 0), (10, 0), (5, 8), (5, 8)], box(0, 0, 20, 1)]),
    "not convex": ([ARROW, ARROW], [False, True], [box(0, 0, 20, 20), ARROW]),
    "without area": ([FLAT, POINT, LINE], [False, True, False], [POINT, FLAT, LINE]),
    "without area, do not care": ([box(0, 0, 20, 20)], [True], [FLAT, POINT]),
    "tiny": ([box(0, 0, 1e-4, 1e-4)], [False], [box(0, 0, 1e-4, 1e-4)]),
    "tiny, do not care": ([box(0, 0, 1, 1)], [True], [box(0.1, 0.1, 0.1 + 1e-6, 0.1 + 1e-6)]),
    "touching corners and edges": ([box(0, 0, 10, 10)], [True], [box(10, 10, 20, 20), box(10, 0, 20, 10)]),
    "outside the page": ([box(-50, -50, 10, 10)], [False], [box(-50, -50, 12, 10)]),
}


@pytest.mark.parametrize("name", CASES)
def test_edge_cases(name: str) -> None:
    agree([CASES[name]])


@pytest.mark.slow
def test_all_edge_cases_as_one_data_set() -> None:
    agree(list(CASES.values()))


def test_the_reference_knows_its_areas() -> None:
    def shared(one: Quad, other: Quad) -> float:
        return float(reference.shared_area(reference.outline(one), reference.outline(other)))

    assert shared(LINE, LINE) == 2000
    assert shared(CROSSED, CROSSED) == 50
    assert shared(CROSSED, box(0, 0, 10, 10)) == 50
    assert shared(ARROW, ARROW) == 150
    assert shared(turned(box(0, 0, 10, 10), 45), box(0, 0, 10, 10)) == pytest.approx(200 * (math.sqrt(2) - 1))
    assert shared(FLAT, LINE) == shared(POINT, LINE) == 0


coordinate = st.integers(0, 24)
any_quad = st.lists(st.tuples(coordinate, coordinate), min_size=4, max_size=4)
size = st.integers(1, 14)
rectangle = st.tuples(coordinate, coordinate, size, size, st.sampled_from([0, 0, 3.7, -20, 45])).map(
    lambda drawn: turned(box(drawn[0], drawn[1], drawn[0] + drawn[2], drawn[1] + drawn[3]), drawn[4])
)
nudge = st.tuples(st.integers(-2, 2), st.integers(-2, 2))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Truth, and detections that are near it, doubled, missing or anywhere."""
    truth = draw(st.lists(st.one_of(rectangle, rectangle, any_quad), max_size=4))
    found = draw(st.lists(st.one_of(rectangle, any_quad), max_size=2))
    for quad in truth:
        for dx, dy in draw(st.lists(nudge, max_size=2)):
            found.append([(x + dx, y + dy) for x, y in quad])
    ignored = [draw(st.booleans()) for _ in truth]
    return truth, ignored, draw(st.permutations(found))


def undecided(scene: Scene) -> bool:
    """Whether some overlap is so near a threshold that the last bit of a float decides."""
    truth, _, found = (
        [reference.outline(quad) for quad in part] if index != 1 else part for index, part in enumerate(scene)
    )
    ratios = [ratio for t in truth for f in found for ratio in (reference.overlap(t, f), reference.share_inside(f, t))]
    return any(abs(ratio - Fraction(threshold)) < NEAR for ratio in ratios for threshold in THRESHOLDS)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.lists(scenes(), min_size=1, max_size=3))
def test_random_scenes(drawn: list[Scene]) -> None:
    assume(not any(undecided(scene) for scene in drawn))
    agree(drawn)
