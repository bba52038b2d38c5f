"""Words along arcs: letters lie in their band, the map is the band's kernel, and the recipe takes the pages."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from detector.training.dataset import make_crop
from detector.training.recipe.data_mix import ARCS, arc_pages, collect
from detector.training.synth.arcs import SIDE, arc_band, make_arcs, render_arcs, write_arc
from detector.training.synth.font import find_faces
from detector.training.targets import offset_distance, offset_polygon

SANS = next(face for face in find_faces()[0] if "Sans" in face.path.name)


def filled(outline: np.ndarray) -> np.ndarray:
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(canvas, [np.round(outline).astype(np.int32)], 1)
    return canvas > 0


@pytest.mark.parametrize("seed", range(12))
def test_letters_lie_in_their_band(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cover = np.zeros((SIDE, SIDE), np.uint8)
    band = next(
        found for _ in range(50) if (found := write_arc(rng, cover, SANS, "HARBOUR STREET", 34, 150.0)) is not None
    )
    ink, inside = cover > 128, filled(band)
    assert ink.sum() > 1000
    assert (ink & inside).sum() > 0.97 * ink.sum()
    bent = cv2.convexHull(band.astype(np.float32))
    assert inside.sum() < 0.85 * filled(bent[:, 0]).sum(), "what lies under the arc is not text"
    (kernel,) = offset_polygon(band, -offset_distance(band))
    assert 0.05 < filled(kernel).sum() / inside.sum() < 0.4


def test_a_band_goes_round_clockwise() -> None:
    band = arc_band(np.array([100.0, 100.0]), 50.0, 10.0, -0.5, 0.5)
    assert band.shape == (48, 2)
    assert np.hypot(*(band[:24] - 100).T) == pytest.approx(55)
    assert np.hypot(*(band[24:] - 100).T) == pytest.approx(45)
    assert band[0, 0] < band[23, 0] and band[:24, 1].max() < 100


@pytest.mark.slow
def test_a_page_is_the_same_for_its_number_and_has_text_where_its_map_says() -> None:
    picture, known = make_arcs(np.random.default_rng(6), [])
    again, same = make_arcs(np.random.default_rng(6), [])
    assert np.array_equal(picture, again) and np.array_equal(known, same)
    assert picture.shape == (SIDE, SIDE, 3) and picture.dtype == np.uint8
    count = cv2.connectedComponents((known > 0).astype(np.uint8))[0] - 1
    assert count >= 2 and set(np.unique(known)) <= {0, 255}
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(float)
    text = cv2.dilate(known, np.ones((9, 9), np.uint8)) > 0
    assert (
        np.abs(cv2.Laplacian(gray, cv2.CV_64F))[text].mean() > 3 * np.abs(cv2.Laplacian(gray, cv2.CV_64F))[~text].mean()
    )


@pytest.mark.slow
def test_the_recipe_takes_them(tmp_path: Path) -> None:
    render_arcs(tmp_path / "arcs", range(2), [])
    before = (tmp_path / "arcs/arc-000001.jpg").stat().st_mtime_ns
    render_arcs(tmp_path / "arcs", range(3), [])
    assert (tmp_path / "arcs/arc-000001.jpg").stat().st_mtime_ns == before
    (tmp_path / "data").mkdir()
    ((weight, pages),) = collect(tmp_path / "data", tmp_path, None, 3)
    assert weight == ARCS and len(pages) == len(arc_pages(tmp_path / "arcs")) == 3
    found = [make_crop(pages[0], 320, np.random.default_rng(seed))[1].probability for seed in range(6)]
    assert max(float(target.max()) for target in found) == 1.0
