"""Probability map -> scored boxes (Liao et al., AAAI 2020, section 3.5: "box formation")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from detector.geometry import area, clip_to_page, order_corners, rectangle_corners, unclip
from detector.thresholds import Thresholds

MAX_CANDIDATES = 3000
"""Regions looked at per page; a newspaper page has about 1,000 lines, noise can have 100,000 specks."""

Map = npt.NDArray[np.float32] | npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Box:
    """A piece of text.

    Attributes:
        points: 4 corners (x, y), clockwise from top-left, in pixels of the original upright page, inside it.
        score: mean probability inside, 0 to 1.
    """

    points: tuple[tuple[float, float], ...]
    score: float


def find_boxes(
    probability: Map, scale: tuple[float, float], page_size: tuple[int, int], thresholds: Thresholds
) -> list[Box]:
    """The boxes of a page, from top to bottom.

    Args:
        probability: (H, W) float32 in [0, 1], or uint8 with 255 for 1; padding already cut off.
        scale: (x, y) original pixels per map pixel.
        page_size: (width, height) of the original upright page in pixels.
        thresholds: when a region of the map is text.
    """
    one = 255.0 if probability.dtype == np.uint8 else 1.0
    binary = (probability >= thresholds.binarize * one).view(np.uint8)
    contours, _ = cv2.findContours(binary, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    if len(contours) > MAX_CANDIDATES:
        contours = sorted(contours, key=len, reverse=True)[:MAX_CANDIDATES]
    rectangles = np.array([_rectangle(contour) for contour in contours], np.float64).reshape(-1, 5)
    rectangles = rectangles[rectangles[:, 2:4].min(axis=1) >= thresholds.min_side]
    scores = means_inside(probability, rectangle_corners(rectangles)) / one
    kept = scores >= thresholds.box_threshold
    corners = rectangle_corners(unclip(rectangles[kept], thresholds.unclip_ratio))
    # Contours run through pixel centres; pixel i of the map covers [i, i + 1] * scale of the page.
    corners = clip_to_page((corners + 0.5) * scale, *page_size)
    on_page = area(corners) > 0
    points = np.round(order_corners(corners[on_page]), 2).tolist()
    boxes = [
        Box(tuple((x, y) for x, y in quad), round(score, 4))
        for quad, score in zip(points, scores[kept][on_page].tolist(), strict=True)
    ]
    boxes.sort(key=lambda box: (box.points[0][1], box.points[0][0]))
    return boxes


def means_inside(probability: Map, corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean of the map over each quadrilateral (the "fast" score: the rectangle, not the ragged region).

    Args:
        probability: (H, W), any range.
        corners: (N, 4, 2) x and y in map pixels.

    Returns:
        (N,) float64.
    """
    last = (probability.shape[1] - 1, probability.shape[0] - 1)
    starts = np.floor(corners.min(axis=1)).astype(np.int64).clip(0, last)
    ends = np.ceil(corners.max(axis=1)).astype(np.int64).clip(0, last) + 1
    inside = np.round(corners - starts[:, None]).astype(np.int32)
    means = np.empty(len(corners))
    for number, ((left, top), (right, bottom)) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        window = probability[top:bottom, left:right]
        mask = np.zeros(window.shape, np.uint8)
        cv2.fillConvexPoly(mask, inside[number], 1)
        means[number] = cv2.mean(window, mask)[0]
    return means


def _rectangle(contour: npt.NDArray[Any]) -> tuple[float, float, float, float, float]:
    (x, y), (width, height), angle = cv2.minAreaRect(contour)
    return x, y, width, height, angle
