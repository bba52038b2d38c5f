"""Errors that are known beforehand."""

from __future__ import annotations

import pytest

from tests.bench.character_errors import Rate, by_line, edit_distance, in_order


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [("", "", 0), ("abc", "", 3), ("", "abc", 3), ("kitten", "sitting", 3), ("abc", "abc", 0), ("flaw", "lawn", 2)],
)
def test_edit_distance(first: str, second: str, distance: int) -> None:
    assert edit_distance(first, second) == edit_distance(second, first) == distance


def box(left: float, top: float, width: float = 100) -> list[list[float]]:
    return [[left, top], [left + width, top], [left + width, top + 20], [left, top + 20]]


def test_rates() -> None:
    truth = [(box(0, 0, 200), "Hello World"), (box(0, 40), "second"), (box(0, 80), "third")]
    boxes, texts = [box(100, 0), box(0, 0), box(0, 40), box(500, 500)], ["world", "hello", "secund", "elsewhere"]
    assert by_line(truth, boxes, texts) == Rate(1 + 5, 21)  # a letter, and a line that was not found
    assert in_order(truth, boxes[:3], texts[:3]) == Rate(1 + 5, 21)
    assert in_order(truth, boxes, texts).errors > 6  # what is on no line counts in the whole page
    assert in_order(truth, [], []) == Rate(21, 21)
