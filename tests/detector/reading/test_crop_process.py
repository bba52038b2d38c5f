"""Boxes cut out of a page by the process that exports ask."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

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
