"""The ICDAR 2015 detection protocol: a box is right when it overlaps a piece of ground truth by more than half.

Source: Karatzas et al., "ICDAR 2015 Competition on Robust Reading" (ICDAR 2015), challenge 4 task 1, and the script the
organisers published with it. "Do not care" regions neither reward nor punish. One difference: that script cuts
coordinates to whole pixels, this keeps what it is given. tests/detector/evaluation/icdar_reference.py is a second
implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from detector.geometry import Points

IOU_THRESHOLD = 0.5
IGNORE_OVERLAP = 0.5
"""A detection that lies in "do not care" text with more than this share of its own area is not counted."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Hits and misses of one image, or, added up, of many.

    Attributes:
        matched: pairs of a detection and a piece of ground truth.
        gt: pieces of ground truth that count.
        det: detections that count.
    """

    matched: int = 0
    gt: int = 0
    det: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.matched + other.matched, self.gt + other.gt, self.det + other.det)

    @property
    def precision(self) -> float:
        """Share of the detections that are right; 0 without detections."""
        return self.matched / self.det if self.det else 0.0

    @property
    def recall(self) -> float:
        """Share of the ground truth that was found; 0 without ground truth."""
        return self.matched / self.gt if self.gt else 0.0

    @property
    def hmean(self) -> float:
        """Harmonic mean of precision and recall ("F")."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def evaluate_image(
    gt_polygons: Sequence[Points] | npt.NDArray[np.floating],
    gt_ignore: Sequence[bool],
    det_polygons: Sequence[Points] | npt.NDArray[np.floating],
    iou_threshold: float = IOU_THRESHOLD,
) -> Counts:
    """Compares the detections of one image with its ground truth.

    Pairs are made greedily in the order of the ground truth, then of the detections, each used once, as the
    organisers' script does.

    Args:
        gt_polygons: (N, 2) arrays of corners, pixels.
        gt_ignore: for each, whether it is "do not care".
        det_polygons: (N, 2) arrays of corners, pixels.
        iou_threshold: intersection over union above which a pair matches.

    Raises:
        ValueError: gt_polygons and gt_ignore differ in length.
    """
    if len(gt_polygons) != len(gt_ignore):
        raise ValueError(f"{len(gt_polygons)} ground-truth polygons but {len(gt_ignore)} ignore flags")
    ignore = np.asarray(gt_ignore, dtype=bool)
    truth, found = _polygons(gt_polygons), _polygons(det_polygons)
    counted = np.flatnonzero(~_in_ignored(found, truth[ignore]))
    found, truth = found[counted], truth[~ignore]
    used_gt: set[int] = set()
    used_det: set[int] = set()
    for gt_index, det_index in _overlapping(truth, found, iou_threshold):
        if gt_index not in used_gt and det_index not in used_det:
            used_gt.add(gt_index)
            used_det.add(det_index)
    return Counts(len(used_gt), len(truth), len(found))


def _polygons(polygons: Sequence[Points] | npt.NDArray[np.floating]) -> npt.NDArray[np.object_]:
    """Valid shapely areas; crossed corners are repaired rather than thrown away (even-odd rule)."""
    shapes = np.array([shapely.Polygon(np.asarray(points, dtype=np.float64)) for points in polygons], dtype=object)
    for index in np.flatnonzero(~shapely.is_valid(shapes)) if len(shapes) else ():
        # A repaired outline may leave lines and points beside its areas, which not every GEOS can intersect.
        parts = shapely.get_parts(shapely.make_valid(shapes[index]))
        shapes[index] = shapely.union_all(parts[shapely.get_dimensions(parts) == 2])
    return shapes


def _ratio(part: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """part / whole, and 0 where there is no whole, as the organisers' script has it."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _in_ignored(found: npt.NDArray[np.object_], ignored: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
    inside = np.zeros(len(found), dtype=bool)
    if len(found) and len(ignored):
        index, area = _intersections(found, ignored)
        share = _ratio(area, shapely.area(found[index[0]]))
        inside[index[0][share > IGNORE_OVERLAP]] = True
    return inside


def _overlapping(
    truth: npt.NDArray[np.object_], found: npt.NDArray[np.object_], threshold: float
) -> list[tuple[int, int]]:
    """(ground truth, detection) index pairs whose intersection over union is above the threshold, in order."""
    if not len(truth) or not len(found):
        return []
    index, area = _intersections(truth, found)
    union = shapely.area(truth[index[0]]) + shapely.area(found[index[1]]) - area
    good = _ratio(area, union) > threshold
    return sorted(zip(index[0][good].tolist(), index[1][good].tolist(), strict=True))


def _intersections(
    one: npt.NDArray[np.object_], other: npt.NDArray[np.object_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Index pairs that touch, (2, K), and the areas they share, (K,)."""
    index = shapely.STRtree(other).query(one, predicate="intersects")
    return index, shapely.area(shapely.intersection(one[index[0]], other[index[1]]))
