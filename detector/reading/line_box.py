"""Boxes of lines made upright: the page's tilt taken off, and the boxes shrunk to their text. Pure Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Quad = Sequence[Sequence[float]]
Direction = Literal["ltr", "rtl", "vertical"]

LONG = 2.5
"""Boxes this much longer than high tell the page's tilt; others are too short for it."""

SHRINK = 0.3
"""Boxes are larger than their text on every side: this share of the height is taken off before gaps are looked for."""


@dataclass(frozen=True, slots=True)
class LineBox:
    """An upright box.

    Attributes:
        number: of the box on the page.
        left, top, right, bottom: its sides.
    """

    number: int
    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        """Of the text, about .4 of its line's."""
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        """Between top and bottom."""
        return (self.top + self.bottom) / 2


def upright(quads: Sequence[Quad], direction: Direction) -> list[LineBox]:
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
        items.append(LineBox(number, left + margin, top + margin, right - margin, bottom - margin))
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
