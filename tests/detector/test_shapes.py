"""Outlines and upright rectangles instead of quads: on known maps, on words along arcs, in records."""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from detector import TextDetector
from detector.geometry import grown_outline, unclip_distance
from detector.postprocess import Box, find_boxes
from detector.record import box_records
from detector.thresholds import SHAPES, Thresholds
from tests.detector.arcs import written

THRESHOLDS = Thresholds()
PAGE = (300, 200)


def overlap(first: object, second: object) -> float:
    """IoU of two outlines."""
    one, other = (shapely.make_valid(shapely.Polygon(points)) for points in (first, second))
    return float(one.intersection(other).area / one.union(other).area)


def ring(thick: int) -> np.ndarray:
    """A map with a thick closed ring."""
    probability = np.zeros((200, 300), np.float32)
    cv2.ellipse(probability, (150, 100), (70, 70), 0, 0, 360, 0.9, thick)
    return probability


@pytest.fixture(scope="module")
def detector() -> TextDetector:
    return TextDetector()


def test_a_line_that_comes_back_near_itself_is_one_region() -> None:
    """Before: GEOS gave two pieces, which was a traceback; a tenth of the region was in none."""
    points = (
        "0,0 3,0 6,3 6,4 5,5 5,6 4,7 2,7 1,8 0,8 0,11 2,11 3,10 6,10 8,12 8,14 11,14 12,15 13,14 13,10 12,9 12,5 13,4 "
        "14,4 15,3 16,3 16,2 17,1 17,0"
    )
    outline = np.array([list(map(int, point.split(","))) for point in points.split()])
    grown = shapely.Polygon(grown_outline(outline, 2.127286084323016, 1.5, (1, 1), (40, 40)))
    on_page = shapely.box(0, 0, 40, 40)
    assert grown.is_valid and grown.covers(shapely.LineString(outline + 0.5).intersection(on_page))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["HARBOUR STREET MARKET", "Orchard Village Kitchen", "GARDEN STATION BRIDGE CO"])
@pytest.mark.parametrize("upward", [True, False])
def test_polygons_follow_arcs_where_quads_cannot(detector: TextDetector, text: str, upward: bool) -> None:
    arc = written(text, 200, upward=upward)
    detector.shape = "polygon"
    boxes = detector.detect(arc.picture).boxes
    # What bends upwards is one outline; the present weights find what hangs below in two halves (docs/models.md).
    whole = shapely.union_all([shapely.make_valid(shapely.Polygon(box.outline)) for box in boxes])
    truth = shapely.Polygon(arc.outline)
    assert whole.intersection(truth).area / whole.union(truth).area >= (0.7 if upward else 0.55)
    assert len(boxes) == (1 if upward else 2)
    assert max(overlap(box.points, arc.outline) for box in boxes) <= 0.5
    assert all(4 <= len(box.outline) <= 80 for box in boxes)  # of some 800 pixels
    detector.shape = "quad"
    assert [(box.points, box.score) for box in detector.detect(arc.picture).boxes] == [
        (box.points, box.score) for box in boxes
    ]


def test_a_straight_line_keeps_its_four_corners() -> None:
    probability = np.zeros((200, 300), np.float32)
    probability[50:70, 100:200] = 0.9
    (box,) = find_boxes(probability, (2, 3), (600, 600), THRESHOLDS, "polygon")
    assert box.polygon is not None
    assert len(box.polygon) == 4
    assert overlap(box.polygon, box.points) >= 0.97
    assert np.array(box.polygon) == pytest.approx(np.array(box.points), abs=1.5)


def test_a_closed_ring_is_its_outer_border() -> None:
    (box,) = find_boxes(ring(12), (1, 1), PAGE, THRESHOLDS, "polygon")
    assert shapely.Polygon(box.outline).area == pytest.approx(np.pi * 85**2, rel=0.05)


def test_rectangles_along_the_axes() -> None:
    probability = np.zeros((200, 300), np.float32)
    cv2.fillConvexPoly(probability, cv2.boxPoints(((150, 100), (160, 24), 30)).round().astype(np.int32), 0.95)
    (quad,) = find_boxes(probability, (1, 1), PAGE, THRESHOLDS)
    (box,) = find_boxes(probability, (1, 1), PAGE, THRESHOLDS, "rect")
    (left, top), (right, top2), (right2, bottom), (left2, bottom2) = box.points
    assert (left, top, right, bottom) == (left2, top2, right2, bottom2)
    ys, xs = np.nonzero(probability)
    grown = float(unclip_distance(160, 24, 1.5))
    assert (left, top) == pytest.approx((xs.min() - grown, ys.min() - grown), abs=1)
    assert (right, bottom) == pytest.approx((xs.max() + 1 + grown, ys.max() + 1 + grown), abs=1)
    assert box.score == quad.score
    assert quad.polygon is box.polygon is None


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SHAPES))
def test_every_shape_is_simple_inside_the_page_and_clockwise(seed: int, shape: str) -> None:
    noise = np.random.default_rng(seed).random((24, 40), np.float32)
    probability = cv2.GaussianBlur(noise, (0, 0), 2.0)
    probability = (probability - probability.min()) / np.ptp(probability)
    for box in find_boxes(probability, (2.5, 2), (100, 48), Thresholds(0.6, 0.6), shape):  # type: ignore[arg-type]
        assert (box.polygon is not None) == (shape == "polygon")
        outline = np.array(box.outline)
        assert len(outline) >= 3
        assert (outline >= 0).all()
        assert (outline <= (100, 48)).all()
        polygon = shapely.Polygon(outline)
        assert polygon.is_valid
        assert polygon.exterior.is_ccw  # of y upwards: clockwise on screen
        assert polygon.area > 0


@pytest.mark.parametrize("points", [[(5, 5)], [(5, 5), (9, 5)], [(5, 5), (9, 5), (5, 5)]])
def test_a_region_without_area_has_an_outline_too(points: list[tuple[int, int]]) -> None:
    grown = grown_outline(np.array(points), 1.0, 1.5, (1, 1), (20, 20))
    assert shapely.Polygon(grown).contains(shapely.Point(5.5, 5.5))


def test_no_such_shape() -> None:
    with pytest.raises(ValueError, match="no shape 'circle'; there are quad, polygon, rect"):
        TextDetector(shape="circle")  # type: ignore[arg-type]


def test_records_have_a_polygon_only_where_one_was_asked_for() -> None:
    corners = ((0.0, 0.0), (9.0, 0.0), (9.0, 5.0), (0.0, 5.0))
    plain, bent = Box(corners, 0.9), Box(corners, 0.9, (*corners, (-1.0, 2.123)))
    written_plain, written_bent = msgspec.to_builtins(box_records([plain, bent], None))
    assert set(written_plain) == {"points", "score"}
    assert written_bent["polygon"][4] == (-1.0, 2.12)
