"""Quadrilaterals and outlines: order of corners, growing, clipping. Pure functions on small arrays."""

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


DETAIL = 0.3
"""Outlines leave out points that lie less than this many widths (area / perimeter of a region, about half of a line's
thickness) beside the line of their neighbours. A word on a half circle keeps some 30 points, a straight line 4. On
words drawn along arcs IoU with what was drawn is .84; 52 points at .2 give no more, 20 points at .6 1.5 points less."""

MITRE = 1.5
"""Corners sharper than 84 degrees are cut off: a spike of the contour must not grow."""


def grown_outline(
    outline: Points, width: float, ratio: float, scale: tuple[float, float], page_size: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """A region's outline, moved out as `unclip_distance` has it.

    Shapely (GEOS), which workers have, moves the outline; pyclipper, which other implementations take, would do the
    same and be one more package to install.

    Args:
        outline: (N, 2) contour of the region, through the centres of its outermost map pixels.
        width: area / perimeter of the region, map pixels.
        ratio: the outline moves out by this many widths.
        scale: (x, y) page pixels per map pixel.
        page_size: (width, height) in pixels; the outline is cut off there.

    Returns:
        (M, 2) float64, clockwise on screen, M at least 3; (0, 2) if nothing of it is on the page.
    """
    import shapely

    # The line buffered, not the area: whatever a contour that touches itself does, the outer border is right.
    line = shapely.linestrings(np.concatenate([outline, outline[:1]]).astype(np.float64))
    # Pixels cover half a pixel more on every side than their centres.
    line = line.simplify(DETAIL * width)
    grown = line.buffer(0.5 + ratio * width, join_style="mitre", mitre_limit=MITRE)
    if not shapely.covers(grown, line) or grown.geom_type != "Polygon":
        # Where a line comes back near itself, mitred corners may break the region in two (GEOS 3.14).
        grown = line.buffer(0.5 + ratio * width, quad_segs=2)
    region = shapely.Polygon(grown.exterior).simplify(DETAIL / 2 * width)
    points = (shapely.get_coordinates(region) + 0.5) * scale  # pixel i of the map covers [i, i + 1]
    if (points < 0).any() or (points > page_size).any():
        parts = shapely.get_parts(shapely.Polygon(points).buffer(0).intersection(shapely.box(0, 0, *page_size)))
        region = max(parts, key=lambda part: float(part.area), default=None)
        points = np.zeros((0, 2)) if region is None else shapely.get_coordinates(region.exterior)
    points = points[:-1]  # the last one is the first one
    x, y = points[:, 0], points[:, 1]
    clockwise = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() >= 0  # y points down
    return np.asarray(points if clockwise else points[::-1], np.float64)


def clip_to_page(points: Points, width: float, height: float) -> npt.NDArray[np.float64]:
    """Corners moved inside [0, width] x [0, height]."""
    return np.clip(np.asarray(points, dtype=np.float64), 0.0, (width, height))


def area(points: Points) -> npt.NDArray[np.float64]:
    """Areas of simple polygons, (..., N, 2) -> (...), by the shoelace formula; square pixels, never negative."""
    x, y = np.moveaxis(np.asarray(points, dtype=np.float64), -1, 0)
    doubled: npt.NDArray[np.float64] = (x * np.roll(y, -1, axis=-1) - y * np.roll(x, -1, axis=-1)).sum(axis=-1)
    return np.abs(doubled) / 2.0
