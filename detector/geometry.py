"""Quadrilaterals: order of corners, growing, clipping, overlap. Pure functions on small arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.floating[Any]]
Rectangles = npt.NDArray[np.floating[Any]]
"""(..., 5): rotated rectangles in OpenCV's terms: centre x and y, width, height, angle in degrees."""


def order_corners(points: Points) -> npt.NDArray[np.float64]:
    """Corners clockwise (on screen: y points down), starting at the top-left one, whatever order they came in.

    Top-left is the corner with the smallest x + y; of two equal ones (a square standing on its tip) the left one.

    Args:
        points: (..., 4, 2) corners of convex quadrilaterals.

    Returns:
        (..., 4, 2) float64.
    """
    corners = np.asarray(points, dtype=np.float64)
    offsets = corners - corners.mean(axis=-2, keepdims=True)
    # With y pointing down, growing angles run clockwise. The size breaks the tie of corners in one direction.
    order = np.lexsort((np.hypot(offsets[..., 0], offsets[..., 1]), np.arctan2(offsets[..., 1], offsets[..., 0])))
    corners = np.take_along_axis(corners, order[..., None], axis=-2)
    first = np.lexsort((np.round(corners[..., 0], 6), np.round(corners.sum(axis=-1), 6)))[..., :1]
    return np.take_along_axis(corners, (first + np.arange(4))[..., None] % 4, axis=-2)


def unclip_distance(width: npt.ArrayLike, height: npt.ArrayLike, ratio: float) -> npt.NDArray[np.float64]:
    """How far DB moves the border of a shrunk w x h region out again: area * ratio / perimeter.

    Source: Liao et al., "Real-time Scene Text Detection with Differentiable Binarization" (AAAI 2020), equation 10.
    """
    wide, high = np.asarray(width, np.float64), np.asarray(height, np.float64)
    perimeter = 2.0 * (wide + high)
    return np.where(perimeter > 0, wide * high * ratio / np.where(perimeter > 0, perimeter, 1.0), 0.0)


def rectangle_corners(rectangles: Rectangles) -> npt.NDArray[np.float64]:
    """What cv2.boxPoints gives, of many rectangles at once: (..., 5) -> (..., 4, 2) float64."""
    x, y, width, height, angle = np.moveaxis(np.asarray(rectangles, np.float64), -1, 0)
    cos, sin = np.cos(np.deg2rad(angle)) / 2.0, np.sin(np.deg2rad(angle)) / 2.0
    along = np.stack([cos * width, sin * width], axis=-1)
    across = np.stack([-sin * height, cos * height], axis=-1)
    centre = np.stack([x, y], axis=-1)
    return np.stack(
        [centre - along + across, centre - along - across, centre + along - across, centre + along + across], axis=-2
    )


def unclip(rectangles: Rectangles, ratio: float) -> npt.NDArray[np.float64]:
    """Rotated rectangles, (..., 5), grown by `unclip_distance` on every side.

    DB offsets the polygon with rounded corners and takes the smallest rectangle around the result. Around a rectangle
    that is the same rectangle with each side moved out by the distance, so no polygon clipping is needed.
    """
    grown = np.array(rectangles, np.float64)
    grown[..., 2:4] += 2.0 * unclip_distance(grown[..., 2], grown[..., 3], ratio)[..., None]
    return grown


def clip_to_page(points: Points, width: float, height: float) -> npt.NDArray[np.float64]:
    """Corners moved inside [0, width] x [0, height]."""
    return np.clip(np.asarray(points, dtype=np.float64), 0.0, (width, height))


def area(points: Points) -> npt.NDArray[np.float64]:
    """Areas of simple polygons, (..., N, 2) -> (...), by the shoelace formula; square pixels, never negative."""
    x, y = np.moveaxis(np.asarray(points, dtype=np.float64), -1, 0)
    doubled: npt.NDArray[np.float64] = (x * np.roll(y, -1, axis=-1) - y * np.roll(x, -1, axis=-1)).sum(axis=-1)
    return np.abs(doubled) / 2.0
