"""Reading order: the recursive X-Y cut on boxes of lines, made upright first.

Sources: G. Nagy, S. Seth: "Hierarchical representation of optically scanned documents" (ICPR 1984), and J. Ha,
R. Haralick, I. Phillips: "Recursive X-Y cut using bounding boxes of connected components" (ICDAR 1995). Two things are
added. The page's tilt is taken off before anything is compared, so that no cut and no row depends on a pixel of it. And
horizontal strips are joined as long as the same gutter runs through them, before they are cut into columns: lines of
two columns often stand at equal heights, and cutting between them would read across. Boxes that were found across a
gutter, a line of each column in one, are cut in two there first.

Pure Python on a few hundred boxes, because exports run where numpy is not installed. A stranger's page may have 3,000
in a row: looking for columns has a bound (`detector.reading.effort`), and what is left then is read row by row.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import groupby, pairwise
from statistics import median

from detector.reading.bridges import GUTTER, free_of, without_bridges
from detector.reading.effort import Effort
from detector.reading.line_box import SHRINK, Direction, LineBox, Quad, upright

Blocks = list[list[list[int]]]
"""Blocks of rows of numbers of boxes."""

Interval = tuple[float, float]

COLUMN_WIDTH = 10.0
"""Lines of a column are, in the median, at least this many heights wide; narrower ones are cells of a table, which is
read row by row."""

UNALIGNED = 0.6
"""Narrower ones are columns too if fewer than this share of their lines have one beside them in the other column: lists
and narrow newspaper columns, whose lines stand at heights of their own."""

LIST_WIDTH, LIST_LINES = 3.0, 10
"""Such columns have at least so many lines of at least this many heights, in the median."""

LIST_PITCH, LIST_SHARE = 4.0, 0.6
"""So many heights of shrunk boxes apart, at most, are this share of their lines; fields of a form stand farther."""

SAME_ROW = 1.0
"""Boxes stand in a row if their middles are less than this many of the smaller one's shrunk heights apart (.4 of a
line's height), and neither is above the other."""

LAST_ROWS = 3
"""A box is compared with the rows above it: on a curled page rows interleave."""

MOST_STEPS = 800_000
"""Boxes that are looked at for columns, each as often as it is: half a second. Of 5,000 pages of up to 200 boxes,
random ones too, none needed 500,000."""

STEPS_AT_A_GAP = 4
"""So much longer than sorting boxes it takes to look at the two sides of a gap."""


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
    items = upright(quads, direction)
    seen: set[int] = set()
    blocks = _cut(without_bridges(items), Effort(MOST_STEPS)) if items else []
    # A box that was cut in two is read where its first part is.
    return [rows for block in blocks if (rows := [new for row in block if (new := _new(row, seen))])]


def _new(row: list[int], seen: set[int]) -> list[int]:
    new = [number for number in row if number not in seen]
    seen.update(new)
    return new


def _cut(items: list[LineBox], effort: Effort) -> Blocks:
    """Strips of a region, joined along gutters, then columns of these, and so on; what has no columns is a block."""
    blocks: Blocks = []
    todo = [(items, False)]  # not by recursion: a page may have a thousand columns
    while todo:
        part, is_group = todo.pop()
        if not is_group:
            todo += [(group, True) for group in reversed(_groups(_strips(part), part, effort))]
        elif (columns := _columns(part, effort)) is not None:
            todo += [(column, False) for column in reversed(columns)]
        else:
            blocks += _paragraphs(_rows(part))
    return blocks


def _strips(items: list[LineBox]) -> list[list[LineBox]]:
    """The region cut at every horizontal gap."""
    strips: list[list[LineBox]] = []
    bottom = -math.inf
    for item in sorted(items, key=lambda item: item.top):
        if item.top >= bottom:
            strips.append([])
        strips[-1].append(item)
        bottom = max(bottom, item.bottom)
    return strips


def _groups(strips: list[list[LineBox]], region: list[LineBox], effort: Effort) -> list[list[LineBox]]:
    """Neighbouring strips through which one gutter runs, together; each other strip with the others around it."""
    left, right = min(item.left for item in region), max(item.right for item in region)
    wide = GUTTER * median(item.height for item in region)
    groups: list[list[LineBox]] = []
    plain = False  # whether the last group is one of strips without a gutter
    start = 0
    while start < len(strips):
        free, end = [(left, right)], start
        group: list[LineBox] = []
        inner = (math.inf, -math.inf)  # from the first right side in the group to the last left one
        best: tuple[int, list[LineBox]] | None = None
        while free and effort.spend(len(free) + len(strips[end] if end < len(strips) else group)):
            left_over = free_of(free, strips[end], wide) if end < len(strips) else []
            # Only where a gutter ends, or the region does, is it worth looking for columns.
            if _ends_between(free, left_over, inner) and _columns(group, effort) is not None:
                best = end, list(group)
            free = left_over
            if free:
                group += strips[end]
                inner = (
                    min(inner[0], *(item.right for item in strips[end])),
                    max(inner[1], *(item.left for item in strips[end])),
                )
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


def _ends_between(free: list[Interval], left_over: list[Interval], inner: Interval) -> bool:
    """Whether one of the free gutters ends here, and has boxes on both sides: is no margin.

    Args:
        free: the gutters, from left to right.
        left_over: what is free of them in the next strip.
        inner: from the first right side of a box to the last left one.
    """
    number = 0
    for left, right in free:  # both from left to right
        while number < len(left_over) and left_over[number][1] <= left:
            number += 1
        goes_on = number < len(left_over) and left_over[number][0] < right
        if not goes_on and inner[0] <= left and inner[1] >= right:
            return True
    return False


def _columns(items: list[LineBox], effort: Effort) -> tuple[list[LineBox], list[LineBox]] | None:
    """The region cut along its widest gutter with columns of text on both sides; None if there is none."""
    if not effort.spend(len(items)):
        return None
    ordered = sorted(items, key=lambda item: item.left)
    wide_ones = [number for number, item in enumerate(ordered) if _may_be_of_column(item)]
    wide = GUTTER * median(item.height for item in items)
    gaps = []
    reach = -math.inf
    for number, item in enumerate(ordered):
        if number and item.left - reach >= wide:
            gaps.append((item.left - reach, number))
        reach = max(reach, item.right)
    for _, number in sorted(gaps, reverse=True):
        if not wide_ones or not wide_ones[0] < number <= wide_ones[-1]:
            continue  # a median of narrow boxes is no column's: cheaper than to look
        if not effort.spend(STEPS_AT_A_GAP * len(items)):
            break
        sides = ordered[:number], ordered[number:]
        edges = _edge(sides[0], 1), _edge(sides[1], -1)
        if all(map(_is_column, sides)) or all(map(_is_column, edges)) or _are_lists(*edges):
            return sides
    return None


def _edge(side: list[LineBox], towards: int) -> list[LineBox]:
    """The boxes of one side of a gutter that stand at it: beyond a column of text there may be a table.

    Args:
        side: the boxes.
        towards: 1 if the gutter is on their right, -1 if on their left.
    """
    edge = []
    shadow = _Shadow()
    ordered = sorted(side, key=lambda item: -towards * item.left)
    for _, same in groupby(ordered, key=lambda item: item.left):
        boxes = list(same)
        edge += [item for item in boxes if not shadow.falls_on(item)]
        for item in boxes:
            shadow.add(item)
    return edge


class _Shadow:
    """The heights at which boxes stand before others."""

    def __init__(self) -> None:
        self._tops: list[float] = []
        self._reach: list[float] = []  # the lowest bottom of those whose top is no lower; ascending, as the tops are

    def add(self, item: LineBox) -> None:
        """One more box that stands before others."""
        place = bisect_left(self._tops, item.top)
        if place and self._reach[place - 1] >= item.bottom:
            return
        end = place
        while end < len(self._reach) and self._reach[end] <= item.bottom:
            end += 1
        if end == place < len(self._tops) and self._tops[place] == item.top:
            return  # that one reaches farther
        self._tops[place:end] = [item.top]
        self._reach[place:end] = [item.bottom]

    def falls_on(self, item: LineBox) -> bool:
        """Whether one of them stands beside this box."""
        place = bisect_left(self._tops, item.bottom)
        return place > 0 and self._reach[place - 1] > item.top


def _may_be_of_column(item: LineBox) -> bool:
    """Whether a box is wide enough for a column, or a list, of its like."""
    return (item.right - item.left) / max(item.height, 1e-6) * (1 - 2 * SHRINK) >= min(LIST_WIDTH, COLUMN_WIDTH)


def _is_column(items: list[LineBox]) -> bool:
    """Whether these are lines of running text one below the other, not cells."""
    if len(items) < 2 or len(_strips(items)) < 2:
        return False
    widths = median((item.right - item.left) / max(item.height, 1e-6) for item in items)
    return widths * (1 - 2 * SHRINK) >= COLUMN_WIDTH


def _are_lists(first: list[LineBox], second: list[LineBox]) -> bool:
    """Whether these are narrow columns, whose lines do not stand beside each other as the cells of a table do."""
    fewer, more = sorted((first, second), key=len)
    if len(fewer) < LIST_LINES or not _is_running(fewer) or not _is_running(more):
        return False
    if any(
        median((item.right - item.left) / max(item.height, 1e-6) for item in side) * (1 - 2 * SHRINK) < LIST_WIDTH
        for side in (fewer, more)
    ):
        return False
    middles = sorted(item.middle for item in more)
    beside = 0
    for item in fewer:
        place = bisect_left(middles, item.middle)
        nearest = min(abs(middle - item.middle) for middle in middles[max(0, place - 1) : place + 1])
        beside += nearest < SAME_ROW * item.height / 2
    return beside < UNALIGNED * len(fewer)


def _is_running(column: list[LineBox]) -> bool:
    """Whether most lines of a column follow each other closely."""
    middles, height = sorted(item.middle for item in column), median(item.height for item in column)
    close = sum(below - above <= LIST_PITCH * height for above, below in pairwise(middles))
    return close >= LIST_SHARE * (len(middles) - 1)


def _rows(items: list[LineBox]) -> list[list[LineBox]]:
    """Boxes beside each other, from top to bottom; each row from left to right."""
    rows: list[list[LineBox]] = []
    for item in sorted(items, key=lambda item: item.middle):
        row = next((row for row in reversed(rows[-LAST_ROWS:]) if _stands_in(item, row)), None)
        if row is None:
            rows.append([item])
        else:
            insort(row, item, key=_left)
    return rows


def _left(item: LineBox) -> float:
    return item.left


def _stands_in(item: LineBox, row: list[LineBox]) -> bool:
    """Whether a box goes on with a row: beside all of its boxes, and as high as the nearest of them.

    Args:
        item: the box.
        row: boxes beside each other, from left to right, whose middles are no lower.
    """
    place = bisect_left(row, item.left, key=_left)
    beside = row[max(0, place - 1) : place + 1]
    gap, _, nearest = min(
        ((max(other.left - item.right, item.left - other.right), other.middle, other) for other in beside),
        key=lambda found: found[:2],
    )
    return gap >= 0 and abs(item.middle - nearest.middle) < SAME_ROW * min(item.height, nearest.height)


def _paragraphs(rows: list[list[LineBox]]) -> Blocks:
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
