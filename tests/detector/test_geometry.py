"""Properties of quadrilaterals, against pyclipper and shapely."""

from __future__ import annotations

import cv2
import numpy as np
import pyclipper
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from detector.geometry import area, clip_to_page, order_corners, rectangle_corners, unclip, unclip_distance

CENTRES = st.tuples(st.floats(-500, 500), st.floats(-500, 500))
SIDES = st.floats(2, 400)
ANGLES = st.floats(-180, 180)
RECTANGLES = st.tuples(CENTRES, st.tuples(SIDES, SIDES), ANGLES)


def flat(rectangle: tuple) -> np.ndarray:
    """OpenCV's ((x, y), (w, h), angle) as one row."""
    return np.array([*rectangle[0], *rectangle[1], rectangle[2]])


@pytest.mark.slow
@given(st.lists(RECTANGLES, max_size=5))
def test_corners_of_many_rectangles_are_opencvs(rectangles: list[tuple]) -> None:
    expected = np.array([cv2.boxPoints(rectangle) for rectangle in rectangles]).reshape(-1, 4, 2)
    corners = rectangle_corners(np.array([flat(rectangle) for rectangle in rectangles]).reshape(-1, 5))
    assert np.allclose(corners, expected, atol=1e-3)


@pytest.mark.slow
@given(st.lists(RECTANGLES, min_size=1, max_size=5))
def test_many_are_ordered_as_each_by_itself(rectangles: list[tuple]) -> None:
    corners = np.array([cv2.boxPoints(rectangle) for rectangle in rectangles])
    assert np.array_equal(order_corners(corners), [order_corners(one) for one in corners])
    assert area(corners) == pytest.approx([area(one) for one in corners])


@given(RECTANGLES, st.permutations(range(4)))
def test_order_does_not_depend_on_the_order_given(rectangle: tuple, permutation: list[int]) -> None:
    corners = cv2.boxPoints(rectangle)
    assert np.allclose(order_corners(corners), order_corners(corners[permutation]))


@given(RECTANGLES)
def test_order_is_clockwise_from_top_left(rectangle: tuple) -> None:
    ordered = order_corners(cv2.boxPoints(rectangle))
    x, y = ordered.T
    # the shoelace sum is positive for clockwise polygons where y points down
    assert np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)) > 0
    assert ordered[0].sum() <= ordered.sum(axis=1).min() + 1e-3


@pytest.mark.parametrize("angle", range(-40, 41, 8))
def test_order_is_stable_while_a_line_of_text_tilts(angle: int) -> None:
    flat = np.array([[-50.0, -10], [50, -10], [50, 10], [-50, 10]])
    turn = np.deg2rad(angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    tilted = flat @ matrix.T + (300, 300)
    assert np.allclose(order_corners(np.roll(tilted, 2, axis=0)), tilted)


def test_order_of_a_square_on_its_tip_starts_left() -> None:
    assert order_corners(np.array([[5.0, 0], [10, 5], [5, 10], [0, 5]]))[0].tolist() == [0, 5]


@given(RECTANGLES, st.floats(0.5, 3))
def test_unclip_is_what_polygon_clipping_gives(rectangle: tuple, ratio: float) -> None:
    corners = cv2.boxPoints(rectangle).astype(np.float64)
    scale = 1000.0
    offset = pyclipper.PyclipperOffset(2.0, 10.0)
    offset.AddPath((corners * scale).round().astype(int).tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    polygon = shapely.Polygon(corners)
    distance = polygon.area * ratio / polygon.length
    (path,) = offset.Execute(distance * scale)
    reference = cv2.minAreaRect((np.array(path) / scale).astype(np.float32))
    grown = unclip(flat(rectangle), ratio)
    assert sorted(grown[2:4]) == pytest.approx(sorted(reference[1]), rel=0.01, abs=0.1)
    assert grown[:2] == pytest.approx(reference[0], abs=0.1)


@given(RECTANGLES, st.floats(0.1, 3))
def test_unclip_grows_around_the_same_centre(rectangle: tuple, ratio: float) -> None:
    both = np.stack([flat(rectangle), unclip(flat(rectangle), ratio)])
    inner, outer = (shapely.Polygon(corners) for corners in rectangle_corners(both))
    assert outer.area > inner.area
    assert outer.buffer(1e-2).contains(inner)


def test_unclip_distance_is_area_times_ratio_over_perimeter() -> None:
    assert unclip_distance(100, 20, 1.5) == pytest.approx(100 * 20 * 1.5 / 240)
    assert unclip_distance(0, 0, 1.5) == 0


@pytest.mark.slow
@given(RECTANGLES)
def test_area_is_shapelys(rectangle: tuple) -> None:
    corners = cv2.boxPoints(rectangle)
    assert area(corners) == pytest.approx(shapely.Polygon(corners.astype(float)).area, rel=1e-3, abs=1e-2)


@given(RECTANGLES)
def test_clipped_corners_are_on_the_page(rectangle: tuple) -> None:
    clipped = clip_to_page(cv2.boxPoints(rectangle), 200, 100)
    assert (clipped >= 0).all()
    assert (clipped <= (200, 100)).all()
