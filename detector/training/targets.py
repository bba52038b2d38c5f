"""Training targets of DBNet, drawn for one crop from its quadrilaterals.

Per crop: the probability target (polygons shrunk by 1 - 0.4^2, section "Label generation" of Liao et al.), a weight
per pixel (0 where nothing is known), the threshold target in a band around each polygon's border, and that band.
Everything is drawn in the crop's own pixels, so targets stay sharp at every scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pyclipper

SHRINK_RATIO = 0.4
THRESHOLD_LOW, THRESHOLD_HIGH = 0.3, 0.7
FAR = 2.0**14  # pixels from a crop's corner: nothing of an honest page is so far
MIN_SIDE = 4.0  # thinner text leaves a kernel of less than two pixels: not learnable, so not judged


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets of one crop; all (H, W) float32 in [0, 1].

    Attributes:
        probability: 1 inside shrunk text (or a teacher's soft map).
        weight: how much each pixel counts for the probability.
        threshold: THRESHOLD_LOW..THRESHOLD_HIGH, highest on the border of the text.
        band: 1 where the threshold is judged.
    """

    probability: np.ndarray
    weight: np.ndarray
    threshold: np.ndarray
    band: np.ndarray


def area_and_perimeter(quad: np.ndarray) -> tuple[float, float]:
    """Area and perimeter of an (N, 2) polygon."""
    following = np.roll(quad, -1, axis=0)
    area = abs(float(np.sum(quad[:, 0] * following[:, 1] - following[:, 0] * quad[:, 1]))) / 2
    return area, float(np.sum(np.hypot(*(following - quad).T)))


def offset_distance(quad: np.ndarray, ratio: float = SHRINK_RATIO) -> float:
    """D = A (1 - r^2) / L, the Vatti offset of the paper (equation 10)."""
    area, perimeter = area_and_perimeter(quad)
    return area * (1 - ratio**2) / max(perimeter, 1e-6)


def offset_polygon(quad: np.ndarray, distance: float) -> list[np.ndarray]:
    """Polygon grown (or, negative, shrunk) by ``distance`` pixels; possibly none, possibly several.

    Args:
        quad: (N, 2) float.
        distance: pixels.

    Returns:
        Polygons of (M, 2) float32.
    """
    scale = 16.0  # pyclipper works on integers: keep 1/16 pixel
    # Up to 1,500 pixels as by default. Beyond, round corners are of 1,400 points each at most: by default a quad of a
    # stranger's that is 1e12 wide had 6 million, which took 3 GB and 16 s.
    clipper = pyclipper.PyclipperOffset(arc_tolerance=max(0.25, abs(distance) * scale * 1e-5))
    clipper.AddPath(np.round(quad * scale).astype(int).tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    return [np.asarray(path, np.float32) / scale for path in clipper.Execute(distance * scale)]


def short_side(quad: np.ndarray) -> float:
    """Mean of the shorter pair of opposite sides of a (4, 2) quadrilateral, pixels."""
    sides = np.hypot(*(np.roll(quad, -1, axis=0) - quad).T)
    return float(min(sides[0] + sides[2], sides[1] + sides[3]) / 2)


def _fill(canvas: np.ndarray, polygon: np.ndarray, value: float) -> None:
    # Four fractional bits: kernels are a few pixels thin, rounding to whole pixels would move their borders.
    for part in _near(polygon, *canvas.shape):
        cv2.fillPoly(canvas, [np.round(part * 16).astype(np.int32)], value, shift=4)


def _near(polygon: np.ndarray, height: int, width: int) -> list[np.ndarray]:
    """The parts of an (N, 2) polygon that can be seen on a canvas; the polygon itself unless it reaches far beyond.

    OpenCV goes through all rows that a polygon has (0.2 s for a million), and draws nothing that is 1e8 wide.
    """
    if np.abs(polygon).max() <= FAR:
        return [polygon]
    clipper = pyclipper.Pyclipper()
    window = np.array([(-2, -2), (width + 2, -2), (width + 2, height + 2), (-2, height + 2)])
    try:
        clipper.AddPath(np.round(polygon.astype(np.float64) * 16).astype(int).tolist(), pyclipper.PT_SUBJECT, True)
    except pyclipper.ClipperException:  # it has no area
        return []
    clipper.AddPath((window * 16).tolist(), pyclipper.PT_CLIP, True)
    return [np.asarray(part, np.float32) / 16 for part in clipper.Execute(pyclipper.CT_INTERSECTION)]


def draw_targets(
    quads: np.ndarray,
    ignore: np.ndarray,
    size: tuple[int, int],
    *,
    teacher: np.ndarray | None = None,
    soft: bool = False,
    doubt: float = 0.3,
) -> Targets:
    """Draws the targets of one crop.

    Args:
        quads: (N, 4, 2) float corners in crop pixels.
        ignore: (N,) bool, don't-care text.
        size: (height, width) of the crop.
        teacher: (H, W) float32 probability of a teacher on the same crop.
        soft: the teacher's map is the target itself and ``quads`` only guide the threshold map. Otherwise the quads
            are the truth, and text that only the teacher sees is doubted.
        doubt: weight of pixels where teacher and truth disagree.
    """
    height, width = size
    probability = np.zeros(size, np.float32)
    weight = np.ones(size, np.float32)
    reach = np.zeros(size, np.float32)
    edges = np.full(size, 255, np.uint8)
    everything = np.zeros(size, np.float32)
    for quad, unknown in zip(quads, ignore, strict=True):
        x0, y0 = quad.min(axis=0)
        x1, y1 = quad.max(axis=0)
        if x1 < 0 or y1 < 0 or x0 >= width or y0 >= height:
            continue
        _fill(everything, quad, 1.0)
        distance = offset_distance(quad)
        kernels = [] if unknown or short_side(quad) < MIN_SIDE else offset_polygon(quad, -distance)
        if not kernels:
            _fill(weight, quad, 0.0)
            continue
        for kernel in kernels:
            _fill(probability, kernel, 1.0)
        for grown in offset_polygon(quad, distance):
            _fill(reach, grown, max(distance, 1.0))
        for part in _near(quad, height, width):
            cv2.polylines(edges, [np.round(part * 16).astype(np.int32)], True, 0, 1, shift=4)
    band = (reach > 0).astype(np.float32)
    closeness = np.zeros(size, np.float32)
    if band.any():
        away = cv2.distanceTransform(edges, cv2.DIST_L2, 3)
        closeness = (np.clip(1 - away / np.maximum(reach, 1.0), 0, 1) * band).astype(np.float32)
    if teacher is not None:
        if soft:
            # Truth on another level (words) that the teacher does not see: text or not, nobody can say.
            weight = np.where((weight == 0) & (teacher < 0.3), doubt, 1).astype(np.float32)
            probability = sharpen(teacher)
        else:
            weight = np.where((teacher > 0.3) & (everything == 0), np.minimum(weight, doubt), weight)
    threshold = THRESHOLD_LOW + (THRESHOLD_HIGH - THRESHOLD_LOW) * closeness
    return Targets(probability, weight.astype(np.float32), threshold.astype(np.float32), band)


def sharpen(teacher: np.ndarray) -> np.ndarray:
    """Steepens a teacher's soft borders: below 0.2 nothing, above 0.75 certainty, linear between."""
    return np.clip((teacher - 0.2) / 0.55, 0, 1).astype(np.float32)
