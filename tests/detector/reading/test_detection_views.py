"""What a `Detection` tells of itself: text, words, JSON, pictures."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from detector.postprocess import Box
from detector.predictor import Detection
from detector.reading.line import Line, Word

CORNERS = ((40.0, 20.0), (120.0, 20.0), (120.0, 40.0), (40.0, 40.0))
LOWER = ((40.0, 60.0), (100.0, 60.0), (100.0, 80.0), (40.0, 80.0))
DOWN = ((160.0, 20.0), (176.0, 20.0), (176.0, 84.0), (160.0, 84.0))


@pytest.fixture
def read() -> Detection:
    """A page of 200 x 100 with two lines, the lower one first, and a line that runs downwards."""
    first = Line("two words", 0.9, (Word("two", CORNERS, 0.9), Word("words", CORNERS, 0.8)), 0.0, 0)
    second, third = Line("below", 0.7, (Word("below", LOWER, 0.7),), 0.0, 1), Line("", 0.0, (), 90.0, 2)
    bent = (*LOWER[:2], (70.0, 90.0), *LOWER[2:])
    boxes = [Box(LOWER, 0.8, bent), Box(CORNERS, 0.9), Box(DOWN, 0.7)]
    return Detection(200, 100, boxes, (100, 200), ("downscaled",), {"open": 0.1}, None, [second, first, third])


def test_text_and_words_in_reading_order(read: Detection) -> None:
    assert read.text.split() == ["two", "words", "below"]
    assert [word.text for word in read.words] == ["two", "words", "below"]


def test_what_was_not_read_has_no_text(read: Detection) -> None:
    for name in ("text", "words"):
        with pytest.raises(ValueError, match="was not read"):
            getattr(replace(read, lines=None), name)


def test_to_dict_is_json(read: Detection) -> None:
    told = json.loads(json.dumps(read.to_dict()))
    assert (told["width"], told["height"], told["flags"]) == (200, 100, ["downscaled"])
    assert [box["text"] for box in told["boxes"]] == ["below", "two words", ""]
    assert len(told["boxes"][0]["polygon"]) == 5
    assert "polygon" not in told["boxes"][1]
    assert "text" not in replace(read, lines=None).to_dict()["boxes"][0]


def test_draw_on_a_page_of_another_size(read: Detection) -> None:
    page = np.full((200, 400, 3), 255, np.uint8)  # twice as large
    drawn = read.draw(page)
    assert (page == 255).all()
    assert drawn.shape == page.shape
    red = drawn[..., 1] < 200  # anti-aliased, so not all of one red
    assert red[40, 160] and red[80, 160]  # upper and lower side of the upper box
    assert not red[60, 160]
    assert red[170:181, 138:143].any()  # the outline's tip, which the quad does not reach


def test_crops_are_upright(read: Detection) -> None:
    page = np.zeros((200, 400, 3), np.uint8)
    page[40:80, 80:240] = (10, 200, 30)
    lower, upper, down = read.crops(page)
    assert upper.shape == (40, 160, 3)
    assert (upper == (10, 200, 30)).all()
    assert not lower.any()
    assert down.shape[1] > down.shape[0]  # a line that runs downwards is turned
    assert {crop.shape[0] for crop in read.crops(page, height=48)} == {48}
