"""Boxes that were found across a gutter, a line of each column in one. Pure Python."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import replace

from detector.reading.effort import Effort
from detector.reading.line_box import LineBox

GUTTER = 2.0
"""Columns stand at least this many heights of shrunk boxes apart: .8 of a line's height between its text."""


NEAR = 5.0
"""Lines of a paragraph are at most this many heights of shrunk boxes apart, middle to middle: two line heights."""

FAR = 9.0
"""So far from a box, in its heights, columns are looked for above and below it."""

MOST_STEPS = 1_000_000
"""Boxes that are looked at, each as often as it is: a third of a second. What is left then stays whole."""


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
    middles = [item.middle for item in ordered]
    effort = Effort(MOST_STEPS)
    for item in ordered:
        gutter = _gutter_across(item, ordered, middles, effort)
        if gutter is None:
            whole.append(item)
        else:
            left, right = gutter
            whole += [replace(item, right=left), replace(item, left=right)]
    return whole


def _gutter_across(
    item: LineBox, ordered: list[LineBox], middles: list[float], effort: Effort
) -> tuple[float, float] | None:
    """The widest gutter that a box lies across, if there is one.

    Args:
        item: the box.
        ordered: all boxes by their middles.
        middles: of these.
        effort: what may still be looked at.
    """
    begin = bisect_left(middles, item.middle - FAR * item.height)
    end = bisect_right(middles, item.middle + FAR * item.height)
    if not effort.spend(end - begin):
        return None
    near = [
        other
        for other in ordered[begin:end]
        if abs(other.middle - item.middle) >= item.height and other.right > item.left and other.left < item.right
    ]
    above = [other for other in near if other.middle < item.middle]
    below = [other for other in near if other.middle > item.middle]
    if not above or not below:
        return None
    inner = []
    for left, right in free_of([(item.left, item.right)], near, GUTTER * item.height):
        if not effort.spend(len(near)):
            return None
        columns = [
            [[other for other in side if other.right <= left] for side in (above, below)],
            [[other for other in side if other.left >= right] for side in (above, below)],
        ]
        goes_on = any(all(any(_is_near(other, item) for other in side) for side in column) for column in columns)
        if goes_on and all(side for column in columns for side in column):
            inner.append((left, right))
    return max(inner, key=lambda gutter: gutter[1] - gutter[0], default=None)


def _is_near(other: LineBox, item: LineBox) -> bool:
    return abs(other.middle - item.middle) <= NEAR * item.height


def free_of(free: list[tuple[float, float]], strip: list[LineBox], wide: float) -> list[tuple[float, float]]:
    """The free intervals of x, from left to right, without what the strip's boxes cover, if they are wide enough."""
    parts = []
    covers = sorted((item.left, item.right) for item in strip)
    number = 0
    for left, right in free:
        begin = left
        while number < len(covers) and covers[number][0] < right:
            cover = covers[number]
            if cover[1] > left:
                parts.append((begin, cover[0]))
                begin = max(begin, cover[1])
            if cover[1] > right:
                break  # it covers some of the next one too
            number += 1
        parts.append((begin, right))
    return [(left, right) for left, right in parts if right - left >= wide]
