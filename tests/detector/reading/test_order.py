"""Reading order on drawn pages: 1, 2 and 3 columns, headings across, tables, tilted by up to 3 degrees."""

from __future__ import annotations

import math
import random
import time

import pytest

from detector.reading.order import reading_blocks, reading_order
from detector.reading.text import page_text
from tests.reading_orders import kendall, ordered_pages

Quad = list[tuple[float, float]]
WIDTH, MARGIN, HEIGHT, PITCH = 1000, 60, 18, 27


def box(left: float, top: float, width: float, height: float = HEIGHT) -> Quad:
    return [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]


def columns(rng: random.Random, count: int, top: float, rows: int, staggered: bool) -> list[Quad]:
    """Columns of text in reading order; some lines are short, as those that end a paragraph are."""
    gutter = 34
    wide = (WIDTH - 2 * MARGIN - (count - 1) * gutter) / count
    quads = []
    for column in range(count):
        offset = column * 9 if staggered else 0
        for row in range(rows - rng.randrange(3)):
            length = wide * (rng.uniform(0.25, 0.8) if rng.random() < 0.15 else rng.uniform(0.95, 1))
            quads.append(box(MARGIN + column * (wide + gutter), top + offset + row * PITCH, length))
    return quads


def heading(top: float) -> list[Quad]:
    return [box(150, top, 700, 34)]


def table(rng: random.Random, top: float, rows: int) -> list[Quad]:
    """Rows of a label and numbers, in reading order."""
    places = [(MARGIN, 110), (420, 70), (640, 70), (850, 80)]
    return [
        box(left, top + row * PITCH + rng.uniform(-1, 1), wide * rng.uniform(0.6, 1))
        for row in range(rows)
        for left, wide in places
    ]


def tilted(quads: list[Quad], degrees: float) -> list[Quad]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [[(x * cos - y * sin + 100, x * sin + y * cos + 100) for x, y in quad] for quad in quads]


def page(rng: random.Random, kind: str) -> list[Quad]:
    """A page's lines as a person reads them."""
    staggered = rng.random() < 0.5
    if kind == "headings":
        first = columns(rng, 2, 120, 12, staggered)
        return [*heading(50), *first, *heading(520), *columns(rng, 3, 590, 12, staggered)]
    if kind == "table":
        return [*heading(50), *columns(rng, 1, 120, 6, False), *table(rng, 340, 10), *columns(rng, 1, 660, 5, False)]
    return [*heading(50), *columns(rng, int(kind), 120, 25, staggered)]


@pytest.mark.parametrize("kind", ["1", "2", "3", "headings", "table"])
@pytest.mark.parametrize("tilt", [-3.0, -2.0, -0.5, 0.0, 1.0, 2.0, 3.0])
def test_drawn_pages(kind: str, tilt: float) -> None:
    rng = random.Random(f"{kind}{tilt}")
    scores = []
    for _ in range(8):
        quads = tilted(page(rng, kind), tilt)
        shuffled = rng.sample(range(len(quads)), len(quads))
        places = reading_order([quads[number] for number in shuffled])
        found = [place for _, place in sorted(zip(shuffled, places, strict=True))]
        assert sorted(found) == list(range(len(quads)))
        scores.append(kendall(found))
    assert sum(scores) / len(scores) >= 0.98, scores


@pytest.mark.slow
def test_real_pages_ordered_by_hand() -> None:
    """The mean was .874 before merged lines, narrow columns and tables beside text were thought of."""
    scores = {}
    for page in ordered_pages():
        places = reading_order(page.quads)
        scores[page.picture] = kendall([places[number] for number in page.order])
    assert len(scores) == 28
    assert sum(scores.values()) / len(scores) > 0.945, scores
    assert sum(score >= 0.98 for score in scores.values()) >= 17, scores


def merged(first: Quad, second: Quad) -> Quad:
    return [first[0], second[1], second[2], first[3]]


@pytest.mark.parametrize("tilt", [-2.0, 0.0, 2.0])
def test_a_line_found_across_the_gutter_breaks_no_columns(tilt: float) -> None:
    left = [box(60, 100 + row * PITCH, 420) for row in range(12)]
    right = [box(514, 100 + row * PITCH, 420) for row in range(12)]
    quads = [*left[:5], merged(left[5], right[5]), *left[6:], *right[:5], *right[6:]]
    assert reading_order(tilted(quads, tilt)) == list(range(len(quads)))


def test_a_heading_between_columns_is_no_merged_line() -> None:
    above = [box(x, 100 + row * PITCH, 420) for x in (60, 514) for row in range(5)]
    below = [box(x, 330 + row * PITCH, 420) for x in (60, 514) for row in range(5)]
    quads = [*above, box(150, 270, 700), *below]
    assert reading_order(quads) == list(range(len(quads)))


def test_narrow_columns_are_lists_where_their_lines_are_not_beside_each_other() -> None:
    left = [box(60, 100 + row * 27, 110) for row in range(12)]
    right = [box(260, 107 + row * 25, 110) for row in range(10)]
    assert reading_order([*left, *right]) == list(range(22))
    table = [box(x, 100 + row * 27, 110) for row in range(12) for x in (60, 260)]
    assert reading_order(table) == list(range(24))


def test_a_table_beside_columns_of_text() -> None:
    text = [box(x, 100 + row * 27, 380) for x in (60, 480) for row in range(14)]
    places = ((900, 100), (1040, 50), (1110, 50), (1180, 50))
    cells = [box(left, 110 + row * 23, wide) for row in range(14) for left, wide in places]
    assert reading_order([*text, *cells]) == list(range(len(text) + len(cells)))


def test_a_pixel_of_tilt_reorders_nothing() -> None:
    rng = random.Random(0)
    quads = page(rng, "2")
    before = reading_order(quads)
    moved = [[(x, y + rng.choice((-1, 0, 1))) for x, y in quad] for quad in quads]
    assert reading_order(moved) == before


def test_right_to_left() -> None:
    rng = random.Random(1)
    quads = page(rng, "2")
    mirrored = [[(WIDTH - x, y) for x, y in (quad[1], quad[0], quad[3], quad[2])] for quad in quads]
    assert reading_order(mirrored, "rtl") == list(range(len(quads)))
    assert reading_order([box(100, 10, 50), box(300, 10, 50)], "rtl") == [1, 0]


def test_vertical() -> None:
    lines = [box(300, 10, 20, 400), box(260, 10, 20, 400), box(220, 10, 20, 300)]
    assert reading_order(list(reversed(lines)), "vertical") == [2, 1, 0]


def test_text_of_blocks() -> None:
    quads = [box(60, 100, 300), box(400, 101, 80), box(60, 130, 300), box(60, 300, 300)]
    assert page_text(quads, ["left", "right", "below", "far"]) == "left right\nbelow\n\nfar"
    assert page_text(quads[:2], ["", ""]) == ""
    assert page_text([], []) == ""


def test_nothing_and_specks() -> None:
    assert reading_blocks([]) == []
    assert reading_order([box(5, 5, 0, 0), box(5, 5, 0, 0)]) == [0, 1]


def test_thousands_of_boxes_in_a_second_or_two() -> None:
    quads = [quad for column in range(6) for quad in columns(random.Random(column), 3, 40 + column * 7000, 160, False)]
    assert sorted(reading_order(quads)) == list(range(len(quads)))


MANY = 3000  # boxes that a page has at most
CROWDED = {
    "a row": [box(number * 60, 0, 30) for number in range(MANY)],
    "a row of lines": [box(number * 600, (number % 2) * 9 + number % 7, 300, 10) for number in range(MANY)],
    "cells": [box(column * 60, row * 40, 30) for column in range(60) for row in range(50)],
    "two lines a column": [box(column * 160, row * 16, 120, 10) for column in range(1500) for row in range(2)],
    "columns": [box(column * 340, row * 16, 300, 10) for column in range(100) for row in range(30)],
    "a diagonal": [box(number * 100, number * 16, 80, 10) for number in range(MANY)],
    "lines across": [box(0, 100 + number / 1000, 500_000, 5) for number in range(1000)]
    + [box(number * 500, top, 300, 5) for number in range(1000) for top in (92, 108)],
    "one place": [box(0, 0, 300, 10)] * MANY,
}
QUICK = ("a row", "columns", "at random")


@pytest.mark.parametrize(
    "kind",
    [*QUICK, *(pytest.param(kind, marks=pytest.mark.slow) for kind in CROWDED if kind not in QUICK)],
)
def test_no_page_keeps_an_export_for_long(kind: str) -> None:
    """A row of 600 took 6 s, and eight times as long for each twice as many."""
    rng = random.Random(2)
    quads = CROWDED.get(kind) or [
        box(rng.uniform(0, 20_000), rng.uniform(0, 20_000), rng.uniform(60, 600), rng.uniform(5, 30))
        for _ in range(MANY)
    ]
    quads = rng.sample(quads, len(quads))
    began = time.process_time()
    places = reading_order(quads)
    assert time.process_time() - began < 15
    assert sorted(places) == list(range(len(quads)))
    if kind in ("a row", "cells"):  # what is given up is read row by row
        tops = [quad[0][1] for _, quad in sorted(zip(places, quads, strict=True))]
        assert tops == sorted(tops)
