import time

import numpy as np
import pyclipper
import pytest

from detector.training import targets
from detector.training.targets import (
    area_and_perimeter,
    draw_targets,
    offset_distance,
    offset_polygon,
    sharpen,
    short_side,
)

BOX = np.array([[20, 30], [120, 30], [120, 70], [20, 70]], np.float32)


def test_offset_is_the_papers() -> None:
    assert area_and_perimeter(BOX) == pytest.approx((4000, 280))
    assert offset_distance(BOX) == pytest.approx(4000 * (1 - 0.4**2) / 280)  # 12 pixels
    (kernel,) = offset_polygon(BOX, -12)
    assert kernel.min(axis=0) == pytest.approx([32, 42], abs=0.1)
    assert kernel.max(axis=0) == pytest.approx([108, 58], abs=0.1)
    assert offset_polygon(BOX, -21) == []
    assert short_side(BOX) == 40


def draw(quads: np.ndarray, ignore: list[bool], **more: object) -> object:
    return draw_targets(quads, np.array(ignore, bool), (100, 160), **more)  # type: ignore[arg-type]


def test_kernel_border_and_band() -> None:
    drawn = draw_targets(BOX[None], np.array([False]), (100, 160))
    assert drawn.probability[50, 70] == 1 and drawn.probability[34, 70] == 0 and drawn.probability[10, 10] == 0
    assert drawn.probability.sum() == pytest.approx(76 * 16, rel=0.12)
    assert drawn.threshold[30, 70] == pytest.approx(0.7, abs=0.01)  # on the border
    assert drawn.threshold[24, 70] == pytest.approx(0.5, abs=0.03)  # half of the 12 pixels away
    assert drawn.threshold[50, 150] == pytest.approx(0.3)
    assert drawn.band[20, 70] == 1 and drawn.band[15, 70] == 0
    assert drawn.weight.min() == 1


@pytest.mark.parametrize("quad", [BOX, BOX * [1, 0.05] + [0, 40]])
def test_ignored_and_too_thin_text_is_not_judged(quad: np.ndarray) -> None:
    thin = short_side(quad) < 4
    drawn = draw_targets(quad[None].astype(np.float32), np.array([not thin]), (100, 160))
    middle = quad.mean(axis=0).astype(int)
    assert drawn.weight[middle[1], middle[0]] == 0
    assert drawn.weight[5, 5] == 1 and not drawn.probability.any() and not drawn.band.any()


def test_text_outside_the_crop_leaves_no_trace() -> None:
    drawn = draw_targets(BOX[None] + 500, np.array([False]), (100, 160))
    assert not drawn.probability.any() and drawn.weight.all()


def test_text_that_only_the_teacher_sees_is_doubted() -> None:
    teacher = np.zeros((100, 160), np.float32)
    teacher[80:90, 10:60] = 0.9
    drawn = draw_targets(BOX[None], np.array([False]), (100, 160), teacher=teacher)
    assert drawn.weight[85, 30] == pytest.approx(0.3) and drawn.probability[85, 30] == 0
    assert drawn.probability[50, 70] == 1 and drawn.weight[50, 70] == 1


def test_a_soft_teacher_is_the_target() -> None:
    teacher = np.zeros((100, 160), np.float32)
    teacher[80:90, 10:60] = 0.9
    drawn = draw_targets(BOX[None], np.array([True]), (100, 160), teacher=teacher, soft=True)
    assert drawn.probability[85, 30] == 1 and drawn.weight[85, 30] == 1
    assert drawn.weight[50, 70] == pytest.approx(0.3)  # words that the teacher does not see
    assert sharpen(np.float32([0.1, 0.2, 0.475, 0.75, 1.0])) == pytest.approx([0, 0, 0.5, 1, 1])


@pytest.mark.parametrize("far", [1e5, 1e6, 1e9, 1e12])
def test_text_that_reaches_far_beyond_the_crop(far: float) -> None:
    """Before: 16 s and 2.9 GB a crop for 1e12, and from 1e9 on it was learnt as no text."""
    around = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * far
    beside = around + np.array([far + 50, 0])  # its left border is inside
    started = time.process_time()
    drawn = draw_targets(np.array([around], np.float32), np.array([False]), (100, 160))
    assert drawn.probability.all() and drawn.weight.all()
    drawn = draw_targets(np.array([beside]), np.array([False]), (100, 160))
    assert not drawn.probability.any()  # the kernel begins far to the right
    assert drawn.threshold[50, 50] == pytest.approx(0.7, abs=0.01)
    drawn = draw_targets(np.array([beside]), np.array([True]), (100, 160))
    assert drawn.weight[50, 40] == 1 and drawn.weight[50, 60] == 0
    assert time.process_time() - started < 3, "nearly as long as any crop takes"


def test_what_lies_near_is_drawn_as_by_opencv_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    quads = BOX + rng.uniform(-100, 100, (6, 4, 2)).astype(np.float32)
    plain = draw_targets(quads, np.array([False, True] * 3), (100, 160))
    monkeypatch.setattr(targets, "FAR", 0.0)
    clipped = draw_targets(quads, np.array([False, True] * 3), (100, 160))
    for one, other in ((plain.probability, clipped.probability), (plain.weight, clipped.weight)):
        assert (one != other).mean() < 0.005


def test_round_corners_are_as_they_were_for_pages() -> None:
    """The weights were trained so: default tolerance up to 1,500 pixels of growth."""
    for size in (20, 200, 2000):
        quad = np.array([[0, 0], [size * 4, 5], [size * 4, size], [3, size]], np.float32)
        plain = pyclipper.PyclipperOffset()
        plain.AddPath((quad * 16).astype(int).tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
        expected = np.asarray(plain.Execute(offset_distance(quad) * 16)[0], np.float32) / 16
        assert np.array_equal(offset_polygon(quad, offset_distance(quad))[0], expected)
