"""Receipts and screenshots of chats are read in full at the standard size, in the memory of any other page."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from detector.predictor import TextDetector
from detector.profile import PROFILES
from tests.long_pages import Line, chat, recall, receipt

PAGES = {
    "receipt 600x4000": lambda: receipt(600, 4000, 24),
    "receipt 1080x9000": lambda: receipt(1080, 9000, 36),
    "chat 800x6541": lambda: chat(800, 6541, 28),
    "chat 600x7484": lambda: chat(600, 7484, 28),
    "chat 600x15000": lambda: chat(600, 15000, 28),
}


@pytest.fixture(scope="module")
def standard() -> TextDetector:
    return TextDetector(limit_side=PROFILES["standard"].limit_side)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_long_page_is_read_at_the_standard_size(name: str, standard: TextDetector, tmp_path: Path) -> None:
    page: tuple[Image.Image, list[Line]] = PAGES[name]()
    image, lines = page
    image.save(tmp_path / "page.png")
    found = standard.detect(tmp_path / "page.png")
    assert recall(lines, [box.points for box in found.boxes]) >= 0.95
    assert len(found.boxes) < 1.3 * len(lines)
    height, width = found.input_size
    area = PROFILES["standard"].limit_side ** 2
    assert height * width <= area or ("tiled" in found.flags and height * width <= 2 * area)  # a square page's memory


def test_recall_counts_what_is_missing() -> None:
    """The measure itself: no boxes, half of the boxes, one box over everything."""
    _, lines = receipt(600, 1000, 24)
    boxes = [[(x0, y0), (x1, y0), (x1, y1), (x0, y1)] for x0, y0, x1, y1 in lines]
    assert recall(lines, boxes) == 1.0
    assert recall(lines, []) == 0.0
    assert recall(lines, boxes[::2]) == pytest.approx(0.5, abs=0.03)
    assert recall(lines, [[(0, 0), (600, 0), (600, 1000), (0, 1000)]]) == 0.0
