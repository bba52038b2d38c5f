"""Boxes that were found across a gutter, a line of each column in one. Pure Python."""

from __future__ import annotations

from dataclasses import replace

from detector.reading.line_box import LineBox

GUTTER = 2.0
"""Columns stand at least this many heights of shrunk boxes apart: .8 of a line's height between its text."""


NEAR = 5.0
"""Lines of a paragraph are at most this many heights of shrunk boxes apart, middle to middle: two line heights."""

FAR = 9.0
"""So far from a box, in its heights, columns are looked for above and below it."""


def without_bridges(items: list[LineBox]) -> list[LineBox]:
    """The boxes, those that lie across a gutter cut in two there.

    The lines above and below such a box leave the gutter free, and in one of the columns they are as near as lines of a
    paragraph. A heading across columns stands farther from them, and of a full-width paragraph the next line lies
    across the gutter too.

    Args:
        items: all boxes of the page.
    """
    whole = []
    ordered = sorted(items, key=lambda item: item.middle)
    for place, item in enumerate(ordered):
        gutter = _gutter_across(item, ordered, place)
        if gutter is None:
            whole.append(item)
        else:
            left, right = gutter
            whole += [replace(item, right=left), replace(item, left=right)]
    return whole


def _gutter_across(item: LineBox, ordered: list[LineBox], place: int) -> tuple[float, float] | None:
    """The widest gutter that a box lies across, if there is one.

    Args:
        item: the box.
        ordered: all boxes by their middles.
        place: of the box among them.
    """
    above, below = (_beyond(item, ordered, place, step) for step in (-1, 1))
    if not above or not below:
        return None
    inner = []
    for left, right in free_of([(item.left, item.right)], above + below, GUTTER * item.height):
        columns = [
            [[other for other in side if other.right <= left] for side in (above, below)],
            [[other for other in side if other.left >= right] for side in (above, below)],
        ]
        goes_on = any(all(any(_is_near(other, item) for other in side) for side in column) for column in columns)
        if goes_on and all(side for column in columns for side in column):
            inner.append((left, right))
    return max(inner, key=lambda gutter: gutter[1] - gutter[0], default=None)


def _beyond(item: LineBox, ordered: list[LineBox], place: int, step: int) -> list[LineBox]:
    """The boxes above (step -1) or below (1) another, no farther than FAR."""
    found, number = list[LineBox](), place + step
    while 0 <= number < len(ordered) and abs(ordered[number].middle - item.middle) <= FAR * item.height:
        other = ordered[number]
        if abs(other.middle - item.middle) >= item.height and other.right > item.left and other.left < item.right:
            found.append(other)
        number += step
    return found


def _is_near(other: LineBox, item: LineBox) -> bool:
    return abs(other.middle - item.middle) <= NEAR * item.height


def free_of(free: list[tuple[float, float]], strip: list[LineBox], wide: float) -> list[tuple[float, float]]:
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
