"""Probability map -> scored boxes (Liao et al., AAAI 2020, section 3.5: "box formation")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from detector.geometry import (
    area,
    clip_to_page,
    grown_outline,
    order_corners,
    rectangle_corners,
    unclip,
    unclip_distance,
)
from detector.thresholds import Shape, Thresholds

MAX_CANDIDATES = 3000
"""Regions looked at per page; a newspaper page has about 1,000 lines, noise can have 100,000 specks."""

Map = npt.NDArray[np.float32] | npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Box:
    """A piece of text.

    Attributes:
        points: 4 corners (x, y), clockwise from top-left, in pixels of the original upright page, inside it.
        score: mean probability of the region's own pixels, 0 to 1.
        polygon: its outline, 3 points or more, clockwise from the one nearest to the first corner; None if none was
            asked for.
    """

    points: tuple[tuple[float, float], ...]
    score: float
    polygon: tuple[tuple[float, float], ...] | None = None

    @property
    def outline(self) -> tuple[tuple[float, float], ...]:
        """The polygon, or the corners if there is none."""
        return self.polygon or self.points


def find_boxes(
    probability: Map,
    scale: tuple[float, float],
    page_size: tuple[int, int],
    thresholds: Thresholds,
    shape: Shape = "quad",
) -> list[Box]:
    """The boxes of a page, from top to bottom.

    Args:
        probability: (H, W) float32 in [0, 1], or uint8 with 255 for 1; padding already cut off.
        scale: (x, y) original pixels per map pixel.
        page_size: (width, height) of the original upright page in pixels.
        thresholds: when a region of the map is text.
        shape: of the boxes.
    """
    one = 255.0 if probability.dtype == np.uint8 else 1.0
    binary = (probability >= thresholds.binarize * one).view(np.uint8)
    contours = outlines(binary)
    if len(contours) > MAX_CANDIDATES:
        contours = sorted(contours, key=len, reverse=True)[:MAX_CANDIDATES]
    rectangles = np.array([_rectangle(contour) for contour in contours], np.float64).reshape(-1, 5)
    # From pixel centre to pixel centre a region measures one pixel less than it covers.
    rectangles[:, 2:4] += 1.0
    large = np.flatnonzero(rectangles[:, 2:4].min(axis=1) >= thresholds.min_side)
    rectangles = rectangles[large]
    scores = region_means(probability, binary, [contours[index] for index in large]) / one
    kept = scores >= thresholds.box_threshold
    regions = [contours[index] for index in large[kept]]
    if shape == "rect":
        corners = _bounds(regions, rectangles[kept], thresholds.unclip_ratio)
    else:
        corners = rectangle_corners(unclip(rectangles[kept], thresholds.unclip_ratio))
    # Contours run through pixel centres; pixel i of the map covers [i, i + 1] * scale of the page.
    corners = clip_to_page((corners + 0.5) * scale, *page_size)
    on_page = area(corners) > 0
    points = np.round(order_corners(corners[on_page]), 2).tolist()
    boxes = [
        Box(tuple((x, y) for x, y in quad), round(score, 4))
        for quad, score in zip(points, scores[kept][on_page].tolist(), strict=True)
    ]
    if shape == "polygon":
        shown = [region for region, shows in zip(regions, on_page, strict=True) if shows]
        boxes = [
            replace(box, polygon=_polygon(box, region, binary, thresholds.unclip_ratio, scale, page_size))
            for box, region in zip(boxes, shown, strict=True)
        ]
    boxes.sort(key=lambda box: (box.points[0][1], box.points[0][0]))
    return boxes


def _polygon(
    box: Box,
    contour: npt.NDArray[Any],
    binary: npt.NDArray[np.uint8],
    ratio: float,
    scale: tuple[float, float],
    page_size: tuple[int, int],
) -> tuple[tuple[float, float], ...]:
    """The region's outline, from the point nearest to the box's first corner; the corners if it has no area."""
    inside = _own_pixels(contour, binary)[1]
    # With the borders of its holes: a word around a whole circle is as thick as its letters, not as the circle.
    borders, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    perimeter = sum(cv2.arcLength(border, True) for border in borders) + 4
    points = grown_outline(contour.reshape(-1, 2), cv2.countNonZero(inside) / perimeter, ratio, scale, page_size)
    if len(points) < 3:
        return box.points
    first = int(np.hypot(*(points - box.points[0]).T).argmin())
    return tuple((x, y) for x, y in np.round(np.roll(points, -first, axis=0), 2).tolist())


def _bounds(
    contours: Sequence[npt.NDArray[Any]], rectangles: npt.NDArray[np.float64], ratio: float
) -> npt.NDArray[np.float64]:
    """Rectangles along the axes around regions, grown like the tilted ones: (N, 4, 2), in pixel centres."""
    sides = np.array([cv2.boundingRect(contour) for contour in contours], np.float64).reshape(-1, 4)
    grown = unclip_distance(rectangles[:, 2], rectangles[:, 3], ratio)
    left, top = sides[:, 0] - 0.5 - grown, sides[:, 1] - 0.5 - grown
    right, bottom = left + sides[:, 2] + 2 * grown, top + sides[:, 3] + 2 * grown
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return np.stack([np.stack(corner, axis=-1) for corner in corners], axis=-2)


def outlines(binary: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
    """Outer contours of all regions of an (H, W) mask, also of those that lie in a hole of another; none of holes."""
    contours, hierarchy = cv2.findContours(binary, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # A hole has a parent. Its contour runs over pixels of the region around it: it would score as well as text.
    outer = np.flatnonzero(hierarchy[0, :, 3] < 0).tolist() if len(contours) else []
    return [contours[index] for index in outer]


def region_means(
    probability: Map, binary: npt.NDArray[np.uint8], contours: Sequence[npt.NDArray[Any]]
) -> npt.NDArray[np.float64]:
    """Mean of the map over each region's own pixels ("slow" or "polygon" score of other implementations).

    Over the smallest rectangle instead, thin, tilted and slightly curved lines score low, for they fill it badly: of
    205 lines that were missed on photos, 75 were in the map and lost so.

    Args:
        probability: (H, W), any range.
        binary: (H, W) 0 or 1, the pixels that are in a region.
        contours: outer contours of regions, (N, 1, 2) x and y in map pixels.

    Returns:
        (len(contours),) float64.
    """
    means = np.empty(len(contours))
    for number, contour in enumerate(contours):
        window, inside = _own_pixels(contour, binary)
        means[number] = cv2.mean(probability[window], inside)[0]
    return means


def _own_pixels(
    contour: npt.NDArray[Any], binary: npt.NDArray[np.uint8]
) -> tuple[tuple[slice, slice], npt.NDArray[np.uint8]]:
    """The part of the map around a region, and which of its pixels are the region's: 0 or 1."""
    x, y, width, height = cv2.boundingRect(contour)
    window = slice(y, y + height), slice(x, x + width)
    inside = np.zeros((height, width), np.uint8)
    cv2.drawContours(inside, [contour], -1, 1, cv2.FILLED, offset=(-x, -y))
    inside &= binary[window]  # without its holes, but with what lies in them
    return window, inside


def _rectangle(contour: npt.NDArray[Any]) -> tuple[float, float, float, float, float]:
    (x, y), (width, height), angle = cv2.minAreaRect(contour)
    return x, y, width, height, angle
