"""The ICDAR 2015 protocol on cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.evaluation.metrics import Counts, evaluate_image


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=float)


def test_perfect() -> None:
    truth = [box(0, 0, 10, 10), box(20, 0, 40, 10)]
    counts = evaluate_image(truth, [False, False], truth)
    assert counts == Counts(2, 2, 2)
    assert (counts.precision, counts.recall, counts.hmean) == (1, 1, 1)


def test_half_is_not_enough() -> None:
    # 10 x 10 against 10 x 20: IoU exactly 0.5
    assert evaluate_image([box(0, 0, 10, 10)], [False], [box(0, 0, 10, 20)]).matched == 0
    assert evaluate_image([box(0, 0, 10, 10)], [False], [box(0, 0, 10, 19)]).matched == 1


def test_ground_truth_is_used_once_and_so_are_detections() -> None:
    assert evaluate_image([box(0, 0, 10, 10)], [False], [box(0, 0, 10, 10)] * 3) == Counts(1, 1, 3)
    assert evaluate_image([box(0, 0, 10, 10)] * 3, [False] * 3, [box(0, 0, 10, 10)]) == Counts(1, 3, 1)


def test_pairs_are_made_in_order() -> None:
    truth = [box(0, 0, 10, 10), box(0, 4, 10, 14)]
    found = [box(0, 1, 10, 11), box(0, 0, 10, 10)]
    assert evaluate_image(truth, [False, False], found) == Counts(1, 2, 2)  # the first takes the better of the second
    assert evaluate_image(truth, [False, False], found[::-1]) == Counts(2, 2, 2)


def test_do_not_care() -> None:
    truth, ignore = [box(0, 0, 10, 10), box(100, 0, 200, 50)], [False, True]
    inside, half_in, barely_in = box(110, 10, 130, 20), box(90, 0, 110, 10), box(91, 0, 109.1, 10)
    assert evaluate_image(truth, ignore, [truth[0], inside]) == Counts(1, 1, 1)
    assert evaluate_image(truth, ignore, [truth[0], half_in]) == Counts(1, 1, 2)  # half of itself is not more than half
    assert evaluate_image(truth, ignore, [truth[0], barely_in]) == Counts(1, 1, 1)
    assert evaluate_image(truth, ignore, []) == Counts(0, 1, 0)


def test_empty_sides() -> None:
    assert evaluate_image([], [], []) == Counts(0, 0, 0)
    assert evaluate_image([], [], [box(0, 0, 1, 1)]) == Counts(0, 0, 1)
    assert evaluate_image(np.zeros((0, 4, 2)), [], np.zeros((0, 4, 2))) == Counts()
    assert Counts().hmean == 0


def test_crossed_and_flat_polygons_do_no_harm() -> None:
    crossed = np.array([(0, 0), (10, 10), (10, 0), (0, 10)], dtype=float)
    flat = np.array([(0, 0), (10, 0), (10, 0), (0, 0)], dtype=float)
    assert evaluate_image([crossed, flat], [False, False], [flat, crossed]).matched >= 1
    assert evaluate_image([box(0, 0, 10, 10)], [True], [flat]).gt == 0


def test_counts_add_up_over_images() -> None:
    total = sum([Counts(1, 2, 4), Counts(3, 6, 4)], Counts())
    assert (total.precision, total.recall) == (0.5, 0.5)


def test_flags_must_fit() -> None:
    with pytest.raises(ValueError, match="1 ground-truth polygons but 0 ignore flags"):
        evaluate_image([box(0, 0, 1, 1)], [], [])


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 30), st.integers(1, 30)), max_size=8))
def test_hits_never_exceed_either_side(corners: list[tuple[int, int, int, int]]) -> None:
    boxes = [box(x, y, x + w, y + h) for x, y, w, h in corners]
    counts = evaluate_image(boxes, [False] * len(boxes), boxes[::-1])
    assert counts.matched <= len(boxes)
    assert evaluate_image(boxes, [True] * len(boxes), boxes) == Counts(0, 0, 0)
