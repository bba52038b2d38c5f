"""Pages on their side are looked at once more, turned; upright pages, and photos of a vertical sign, are not."""

from __future__ import annotations

import numpy as np
import pytest

from detector.images.turning import lies_on_its_side, reads_better
from detector.postprocess import Box
from detector.predictor import Detection, TextDetector
from tests.detector.lettered import Lettered, page, turned


def box(left: float, top: float, width: float, height: float, score: float = 0.8) -> Box:
    right, bottom = left + width, top + height
    return Box(((left, top), (right, top), (right, bottom), (left, bottom)), score)


def lines_found(sheet: Lettered, found: Detection) -> int:
    """Lines of which boxes cover four fifths of the area."""
    covered = np.zeros(sheet.picture.size[::-1], bool)
    for one in found.boxes:
        (left, top), (right, bottom) = np.min(one.points, 0).astype(int), np.max(one.points, 0).astype(int)
        covered[top:bottom, left:right] = True
    count = 0
    for quad in sheet.quads:
        (left, top), (right, bottom) = quad.min(0).astype(int), quad.max(0).astype(int)
        count += covered[top:bottom, left:right].mean() > 0.8
    return count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "lines", "quarters", "tiled"), [((480, 640), 40, 3, False), ((700, 900), 56, 1, True)]
)
def test_a_page_on_its_side_keeps_its_lines(size: tuple[int, int], lines: int, quarters: int, tiled: bool) -> None:
    """Whether by the second look or by the first: the first finds all lines of the small page, and is kept."""
    detector, upright = TextDetector(limit_side=960, tiled=tiled), page(size, lines, 60, 10)
    sheet = turned(upright, quarters)
    before, found = (detector.detect(np.asarray(one.picture)) for one in (upright, sheet))
    assert "turn" not in before.seconds and "turned" not in before.flags
    assert found.seconds["turn"] > 0
    assert (found.width, found.height) == sheet.picture.size
    assert found.input_size == before.input_size[::-1]
    assert lines_found(sheet, found) >= 0.98 * lines_found(upright, before) >= 0.95 * lines
    assert len(found.boxes) < 1.1 * len(before.boxes), "before: 50 pieces of 40 lines"


def test_a_page_of_a_few_lines_from_top_to_bottom_is_no_page_on_its_side() -> None:
    tall, wide = box(0, 0, 20, 300), box(0, 0, 300, 20)
    assert not lies_on_its_side([])
    assert not lies_on_its_side([tall, tall]), "a sign"
    assert lies_on_its_side([tall] * 3)
    assert not lies_on_its_side([tall] * 3 + [wide] * 4), "a drawing, a table with turned heads"
    assert not lies_on_its_side([box(0, 0, 20, 25)] * 50), "single letters have no direction"


def test_the_better_look_is_kept() -> None:
    tall, sure = [box(0, 0, 20, 300, 0.75)] * 8, [box(0, 0, 20, 300, 0.82)] * 8
    assert reads_better(sure, tall) and not reads_better(tall, sure), "vertical script stays as it was"
    assert reads_better(tall * 2, sure), "many more boxes"
    assert not reads_better(sure[:4], tall), "surer of what little it sees"
    assert not reads_better([], tall)
