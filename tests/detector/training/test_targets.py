import numpy as np
import pytest

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
