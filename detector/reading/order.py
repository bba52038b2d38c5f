"""Reading order: the recursive X-Y cut on boxes of lines, made upright first.

Sources: G. Nagy, S. Seth: "Hierarchical representation of optically scanned documents" (ICPR 1984), and J. Ha,
R. Haralick, I. Phillips: "Recursive X-Y cut using bounding boxes of connected components" (ICDAR 1995). Two things are
added. The page's tilt is taken off before anything is compared, so that no cut and no row depends on a pixel of it. And
horizontal strips are joined as long as the same gutter runs through them, before they are cut into columns: lines of
two columns often stand at equal heights, and cutting between them would read across.

Pure Python on a few hundred boxes, because exports run where numpy is not installed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

Quad = Sequence[Sequence[float]]
Direction = Literal["ltr", "rtl", "vertical"]
Blocks = list[list[list[int]]]
"""Blocks of rows of numbers of boxes."""

LONG = 2.5
"""Boxes this much longer than high tell the page's tilt; others are too short for it."""

SHRINK = 0.3
"""Boxes are larger than their text on every side: this share of the height is taken off before gaps are looked for."""

GUTTER = 2.0
"""Columns stand at least this many heights of shrunk boxes apart: .8 of a line's height between its text."""

COLUMN_WIDTH = 10.0
"""Lines of a column are, in the median, at least this many heights wide; narrower ones are cells of a table, which is
read row by row."""

SAME_ROW = 1.0
"""Boxes stand in a row if their middles are less than this many of the smaller one's shrunk heights apart (.4 of a
line's height), and neither is above the other."""

LAST_ROWS = 3
"""A box is compared with the rows above it: on a curled page rows interleave."""


@dataclass(frozen=True, slots=True)
class _Item:
    """An upright box: its number, and its sides."""

    number: int
    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


def reading_order(quads: Sequence[Quad], direction: Direction = "ltr") -> list[int]:
    """The place of every box when the page is read, from 0.

    Args:
        quads: 4 corners (x, y) each, clockwise from top-left.
        direction: "ltr", "rtl" (rows and columns from right to left: Arabic, Hebrew), or "vertical" (lines from top to
            bottom, the first one on the right: Chinese and Japanese).
    """
    places = [0] * len(quads)
    numbers = (number for block in reading_blocks(quads, direction) for row in block for number in row)
    for place, number in enumerate(numbers):
        places[number] = place
    return places


def reading_blocks(quads: Sequence[Quad], direction: Direction = "ltr") -> Blocks:
    """The boxes as blocks of rows, in reading order. See `reading_order`."""
    items = _upright(quads, direction)
    return _cut(items) if items else []


def _upright(quads: Sequence[Quad], direction: Direction) -> list[_Item]:
    """The boxes with the page's tilt taken off, shrunk to their text, mirrored or turned as the direction asks."""
    corners = [[_turn(float(x), float(y), direction) for x, y in quad] for quad in quads]
    tilt = _tilt(corners)
    cos, sin = math.cos(tilt), math.sin(tilt)
    items = []
    for number, quad in enumerate(corners):
        xs = [x * cos + y * sin for x, y in quad]
        ys = [y * cos - x * sin for x, y in quad]
        left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
        margin = SHRINK * min(right - left, bottom - top)
        items.append(_Item(number, left + margin, top + margin, right - margin, bottom - margin))
    return items


def _turn(x: float, y: float, direction: Direction) -> tuple[float, float]:
    if direction == "rtl":
        return -x, y
    return (y, -x) if direction == "vertical" else (x, y)


def _tilt(quads: list[list[tuple[float, float]]]) -> float:
    """The angle of most of the page's text, radians: the median over the long sides of long boxes, by their length."""
    sides = []
    for quad in quads:
        for (x0, y0), (x1, y1) in pairwise(quad[:3]):
            length, across = math.hypot(x1 - x0, y1 - y0), _other_side(quad, (x0, y0) == quad[0])
            angle = math.atan2(y1 - y0, x1 - x0)
            angle -= math.pi * round(angle / math.pi)  # a mirrored or turned side runs backwards
            if length > LONG * across and abs(angle) < math.pi / 4:
                sides.append((angle, length))
    sides.sort()
    half, seen = sum(length for _, length in sides) / 2, 0.0
    for angle, length in sides:
        seen += length
        if seen >= half:
            return angle
    return 0.0


def _other_side(quad: list[tuple[float, float]], first: bool) -> float:
    (x0, y0), (x1, y1) = (quad[1], quad[2]) if first else (quad[0], quad[1])
    return math.hypot(x1 - x0, y1 - y0)


def _cut(items: list[_Item]) -> Blocks:
    """Strips of a region, joined along gutters, then columns of these, recursively; what has no columns is a block."""
    blocks: Blocks = []
    for group in _groups(_strips(items), items):
        columns = _columns(group)
        if columns is None:
            blocks += _paragraphs(_rows(group))
        else:
            for column in columns:
                blocks += _cut(column)
    return blocks


def _strips(items: list[_Item]) -> list[list[_Item]]:
    """The region cut at every horizontal gap."""
    strips: list[list[_Item]] = []
    bottom = -math.inf
    for item in sorted(items, key=lambda item: item.top):
        if item.top >= bottom:
            strips.append([])
        strips[-1].append(item)
        bottom = max(bottom, item.bottom)
    return strips


def _groups(strips: list[list[_Item]], region: list[_Item]) -> list[list[_Item]]:
    """Neighbouring strips through which one gutter runs, together; each other strip with the others around it."""
    left, right = min(item.left for item in region), max(item.right for item in region)
    wide = GUTTER * median(item.height for item in region)
    groups: list[list[_Item]] = []
    plain = False  # whether the last group is one of strips without a gutter
    start = 0
    while start < len(strips):
        free, end = [(left, right)], start
        group: list[_Item] = []
        best: tuple[int, list[_Item]] | None = None
        while free:
            left_over = _without(free, strips[end], wide) if end < len(strips) else []
            # Only where a gutter ends, or the region does, is it worth looking for columns.
            if group and any(_ends(gutter, left_over) for gutter in free) and _columns(group) is not None:
                best = end, list(group)
            free = left_over
            if free:
                group += strips[end]
                end += 1
        if best is not None:
            groups.append(best[1])
            start, plain = best[0], False
            continue
        if plain:
            groups[-1] = groups[-1] + strips[start]
        else:
            groups.append(strips[start])
        start, plain = start + 1, True
    return groups


def _ends(gutter: tuple[float, float], free: list[tuple[float, float]]) -> bool:
    """Whether nothing of a gutter is left."""
    return not any(left < gutter[1] and right > gutter[0] for left, right in free)


def _without(free: list[tuple[float, float]], strip: list[_Item], wide: float) -> list[tuple[float, float]]:
    """The free intervals of x without what the strip's boxes cover, if they are wide enough."""
    for item in strip:
        parts = []
        for left, right in free:
            if item.left >= right or item.right <= left:
                parts.append((left, right))
            else:
                parts += [(left, item.left), (item.right, right)]
        free = [(left, right) for left, right in parts if right - left >= wide]
    return free


def _columns(items: list[_Item]) -> tuple[list[_Item], list[_Item]] | None:
    """The region cut along its widest gutter with columns of text on both sides; None if there is none."""
    ordered = sorted(items, key=lambda item: item.left)
    wide = GUTTER * median(item.height for item in items)
    best, gap = None, wide
    reach = -math.inf
    for number, item in enumerate(ordered):
        if number and item.left - reach >= gap:
            sides = ordered[:number], ordered[number:]
            if all(_is_column(side) for side in sides):
                best, gap = sides, item.left - reach
        reach = max(reach, item.right)
    return best


def _is_column(items: list[_Item]) -> bool:
    """Whether these are lines of running text one below the other, not cells."""
    if len(items) < 2 or len(_strips(items)) < 2:
        return False
    widths = median((item.right - item.left) / max(item.height, 1e-6) for item in items)
    return widths * (1 - 2 * SHRINK) >= COLUMN_WIDTH


def _rows(items: list[_Item]) -> list[list[_Item]]:
    """Boxes beside each other, from top to bottom; each row from left to right."""
    rows: list[list[_Item]] = []
    for item in sorted(items, key=lambda item: item.middle):
        row = next((row for row in reversed(rows[-LAST_ROWS:]) if _stands_in(item, row)), None)
        if row is None:
            rows.append([item])
        else:
            row.append(item)
    for row in rows:
        row.sort(key=lambda item: item.left)
    return rows


def _stands_in(item: _Item, row: list[_Item]) -> bool:
    """Whether a box goes on with a row: beside all of its boxes, and as high as the nearest of them."""
    gaps = [max(other.left - item.right, item.left - other.right) for other in row]
    nearest = row[gaps.index(min(gaps))]
    return min(gaps) >= 0 and abs(item.middle - nearest.middle) < SAME_ROW * min(item.height, nearest.height)


def _paragraphs(rows: list[list[_Item]]) -> Blocks:
    """Rows as blocks: a new one begins after a gap that is more than half as large again as the usual one."""
    gaps = [min(item.top for item in lower) - max(item.bottom for item in upper) for upper, lower in pairwise(rows)]
    height = median(item.height for row in rows for item in row)
    most = max(1.5 * median(gaps), height) if gaps else 0.0
    blocks: Blocks = []
    for number, row in enumerate(rows):
        if not number or gaps[number - 1] > most:
            blocks.append([])
        blocks[-1].append([item.number for item in row])
    return blocks
