"""Quadrilaterals: order of corners, growing, clipping, overlap. Pure functions on small arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.floating[Any]]
Rectangle = tuple[tuple[float, float], tuple[float, float], float]
"""A rotated rectangle as OpenCV writes it: centre (x, y), size (w, h), angle in degrees."""


def order_corners(points: Points) -> npt.NDArray[np.float64]:
    """Corners clockwise (on screen: y points down), starting at the top-left one, whatever order they came in.

    Top-left is the corner with the smallest x + y; of two equal ones (a square standing on its tip) the left one.

    Args:
        points: (4, 2) corners of a convex quadrilateral.

    Returns:
        (4, 2) float64.
    """
    corners = np.asarray(points, dtype=np.float64)
    offsets = corners - corners.mean(axis=0)
    # With y pointing down, growing angles run clockwise. The size breaks the tie of corners in one direction.
    order = np.lexsort((np.hypot(offsets[:, 0], offsets[:, 1]), np.arctan2(offsets[:, 1], offsets[:, 0])))
    corners = corners[order]
    sums = np.round(corners.sum(axis=1), 6)
    first = min(range(4), key=lambda i: (sums[i], round(corners[i, 0], 6)))
    return np.roll(corners, -first, axis=0)


def unclip_distance(width: float, height: float, ratio: float) -> float:
    """How far DB moves the border of a shrunk w x h region out again: area * ratio / perimeter.

    Source: Liao et al., "Real-time Scene Text Detection with Differentiable Binarization" (AAAI 2020), equation 10.
    """
    perimeter = 2.0 * (width + height)
    return width * height * ratio / perimeter if perimeter > 0 else 0.0


def unclip(rectangle: Rectangle, ratio: float) -> Rectangle:
    """A rotated rectangle grown by `unclip_distance` on every side.

    DB offsets the polygon with rounded corners and takes the smallest rectangle around the result. Around a rectangle
    that is the same rectangle with each side moved out by the distance, so no polygon clipping is needed.
    """
    centre, (width, height), angle = rectangle
    grow = 2.0 * unclip_distance(width, height, ratio)
    return centre, (width + grow, height + grow), angle


def clip_to_page(points: Points, width: float, height: float) -> npt.NDArray[np.float64]:
    """Corners moved inside [0, width] x [0, height]."""
    return np.clip(np.asarray(points, dtype=np.float64), 0.0, (width, height))


def area(points: Points) -> float:
    """Area of a simple polygon, (N, 2), by the shoelace formula; square pixels, never negative."""
    x, y = np.asarray(points, dtype=np.float64).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2.0)
