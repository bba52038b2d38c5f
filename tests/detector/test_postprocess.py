"""Known probability maps and the boxes they must give."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.geometry import unclip_distance
from detector.postprocess import MAX_CANDIDATES, find_boxes, outlines, region_means
from detector.thresholds import Thresholds

THRESHOLDS = Thresholds()


def blank(height: int = 200, width: int = 300) -> np.ndarray:
    return np.zeros((height, width), np.float32)


def test_a_bright_rectangle_becomes_its_unclipped_box() -> None:
    probability = blank()
    probability[50:70, 100:200] = 0.9  # pixels 100..199 and 50..69
    (box,) = find_boxes(probability, (1, 1), (300, 200), THRESHOLDS)
    grow = unclip_distance(100, 20, 1.5)
    left, top, right, bottom = 100 - grow, 50 - grow, 200 + grow, 70 + grow
    expected = [(left, top), (right, top), (right, bottom), (left, bottom)]
    assert np.array(box.points) == pytest.approx(np.array(expected), abs=0.02)
    assert box.score == pytest.approx(0.9, abs=1e-3)


def test_scale_is_applied_to_each_axis() -> None:
    probability = blank()
    probability[50:71, 100:201] = 0.9
    (small,) = find_boxes(probability, (1, 1), (300, 200), THRESHOLDS)
    (large,) = find_boxes(probability, (4, 2.5), (1200, 500), THRESHOLDS)
    assert np.array(large.points) == pytest.approx(np.array(small.points) * (4, 2.5), abs=0.05)


def test_a_tilted_line_keeps_its_angle() -> None:
    probability = blank()
    corners = cv2.boxPoints(((150, 100), (160, 24), 30))
    cv2.fillConvexPoly(probability, corners.round().astype(np.int32), 0.95)
    (box,) = find_boxes(probability, (1, 1), (300, 200), THRESHOLDS)
    (x1, y1), (x2, y2) = box.points[0], box.points[1]
    assert np.degrees(np.arctan2(y2 - y1, x2 - x1)) == pytest.approx(30, abs=1.5)


def test_thresholds() -> None:
    probability = blank()
    probability[20:40, 20:100] = 0.29  # under binarize
    probability[60:80, 20:100] = 0.45  # binarized, but the box's mean is under box_threshold
    probability[100:102, 20:100] = 0.9  # 1 px between pixel centres: a speck
    probability[150:170, 20:100] = 0.55
    boxes = find_boxes(probability, (1, 1), (300, 200), THRESHOLDS)
    assert [box.score for box in boxes] == [pytest.approx(0.55, abs=1e-3)]
    assert (
        len(find_boxes(probability, (1, 1), (300, 200), Thresholds(binarize=0.2, box_threshold=0.2, min_side=0.5))) == 4
    )


def test_boxes_stay_on_the_page_and_are_ordered_from_the_top() -> None:
    probability = blank()
    probability[180:200, 250:300] = 0.9
    probability[0:20, 0:80] = 0.9
    first, second = find_boxes(probability, (2, 2), (600, 400), THRESHOLDS)
    assert first.points[0] == (0, 0)
    assert second.points[2] == (600, 400)


def test_nothing_and_everything() -> None:
    assert find_boxes(blank(), (1, 1), (300, 200), THRESHOLDS) == []
    assert find_boxes(blank(1, 1) + 1, (1, 1), (1, 1), THRESHOLDS) == []
    (whole,) = find_boxes(blank() + 1, (1, 1), (300, 200), THRESHOLDS)
    assert whole.points == ((0, 0), (300, 0), (300, 200), (0, 200))


def test_noise_does_not_take_for_ever() -> None:
    noise = np.random.default_rng(0).random((640, 640), dtype=np.float32)
    noise[::2] = 0
    noise[300:340, 100:500] = 1
    boxes = find_boxes(noise, (1, 1), (640, 640), THRESHOLDS)
    assert len(boxes) <= MAX_CANDIDATES
    assert any(box.score > 0.9 for box in boxes)


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1))
def test_same_map_same_boxes_all_inside_all_scored(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probability = cv2.resize(rng.random((12, 16), dtype=np.float32), (160, 120))
    boxes = find_boxes(probability, (3, 3), (480, 360), THRESHOLDS)
    assert boxes == find_boxes(probability, (3, 3), (480, 360), THRESHOLDS)
    for box in boxes:
        assert THRESHOLDS.box_threshold <= box.score <= 1
        assert all(0 <= x <= 480 and 0 <= y <= 360 for x, y in box.points)


def test_a_region_is_judged_by_its_own_pixels() -> None:
    probability = blank()
    probability[90:110, 100:200] = 0.8
    probability[95:105, 120:180] = 0.1  # a hole
    probability[98:102, 140:160] = 0.6  # and a region in it
    binary = (probability >= 0.3).view(np.uint8)
    means = region_means(probability, binary, outlines(binary))
    assert sorted(means.tolist()) == [pytest.approx(0.6, abs=1e-3), pytest.approx(0.8, abs=0.02)]


def test_a_bent_line_scores_as_well_as_a_straight_one() -> None:
    probability = blank()
    x = np.arange(40, 260)
    arc = np.column_stack([x, 100 - 30 * np.cos((x - 150) / 90)]).round().astype(np.int32)
    cv2.polylines(probability, [arc], False, 0.9, 8)  # fills a third of its rectangle
    (box,) = find_boxes(probability, (1, 1), (300, 200), Thresholds(box_threshold=0.7))
    assert box.score == pytest.approx(0.9, abs=0.01)


def test_a_frame_is_no_box_inside_itself() -> None:
    probability = blank()
    cv2.rectangle(probability, (20, 20), (280, 180), 0.9, 6)
    probability[80:100, 60:200] = 0.8
    boxes = find_boxes(probability, (1, 1), (300, 200), THRESHOLDS)
    assert len(boxes) == 2, "the frame and the text, not the frame's hole"
    assert boxes[1].score == pytest.approx(0.8, abs=0.01) and boxes[1].points[0][1] > 60


def test_bytes_give_the_same_boxes_as_floats() -> None:
    rng = np.random.default_rng(5)
    levels = np.round(cv2.resize(rng.random((12, 16), dtype=np.float32), (160, 120)) * 255)
    floats = find_boxes((levels / 255).astype(np.float32), (1, 1), (160, 120), THRESHOLDS)
    whole = find_boxes(levels.astype(np.uint8), (1, 1), (160, 120), THRESHOLDS)
    assert [box.points for box in whole] == [box.points for box in floats]
    assert [box.score for box in whole] == pytest.approx([box.score for box in floats], abs=1e-3)
