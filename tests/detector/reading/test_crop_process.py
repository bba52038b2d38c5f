"""Boxes cut out of a page by the process that exports ask."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from detector.errors import TooLarge
from detector.reading.crop_process import CropJob, write_crops


@pytest.mark.parametrize("far", [1e4, 1e8, 1e300])
def test_a_box_far_outside_the_page_is_no_larger_than_the_page(tmp_path: Path, far: float) -> None:
    page = tmp_path / "a.png"
    Image.new("RGB", (320, 240)).save(page)
    boxes = [
        [(0.0, -far), (far, 0.0), (0.0, far), (-far, 1.0)],
        [(far, far), (2 * far, far + 9), (2 * far, far + 20), (far, far + 10)],
    ]
    write_crops(CropJob(str(page), 0, boxes, str(tmp_path), ["0.jpg", "1.jpg"]))
    for number in range(2):
        assert max(Image.open(tmp_path / f"{number}.jpg").size) <= 400


def test_boxes_together_are_no_larger_than_some_pages(tmp_path: Path) -> None:
    """Before: each box of a forged record was the whole page once more, until its time was over."""
    page = tmp_path / "a.png"
    Image.new("RGB", (1000, 800)).save(page)
    whole = [(0.0, 0.0), (1000.0, 0.0), (1000.0, 800.0), (0.0, 800.0)]
    write_crops(CropJob(str(page), 0, [whole] * 7, str(tmp_path), [f"{number}.jpg" for number in range(7)]))
    with pytest.raises(TooLarge, match="9 times its pixels"):
        write_crops(CropJob(str(page), 0, [whole] * 9, str(tmp_path), [f"more-{number}.jpg" for number in range(9)]))
    assert len(list(tmp_path.glob("*.jpg"))) == 7
