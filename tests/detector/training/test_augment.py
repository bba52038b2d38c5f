import cv2
import numpy as np
import pytest

from detector.training.augment import LARGEST_LINE, VIEWS, View, change_look, choose_matrix, move_points, warp


def test_points_move_with_the_pixels() -> None:
    page = np.zeros((200, 300, 3), np.uint8)
    quad = np.array([[[100, 80], [140, 80], [140, 100], [100, 100]]], np.float32)
    cv2.fillPoly(page, [quad[0].astype(np.int32)], (255, 255, 255))
    view = View((300, 600), tilt=20, mirror=0.5, quarter_turn=0.3)
    seen = 0
    for seed in range(20):
        matrix = choose_matrix(np.random.default_rng(seed), (200, 300), quad, 128, view)
        crop = warp(page, matrix, 128, (0, 0, 0))
        drawn = np.zeros((128, 128), np.uint8)
        cv2.fillPoly(drawn, [np.round(move_points(quad, matrix)[0]).astype(np.int32)], 255)
        if drawn.any():
            seen += 1
            assert np.mean(np.abs(crop[..., 0].astype(int) - drawn)) < 8
    assert seen > 10


def test_huge_lettering_fits_the_crop() -> None:
    """A line as high as the page is shrunk; a small one next to it is not."""
    huge = np.array([[[0, 100], [800, 100], [800, 700], [0, 700]]], np.float32)
    small = np.array([[[0, 100], [300, 100], [300, 130], [0, 130]]], np.float32)
    view = View((1500, 1500), tilt=0, stretch=0)
    scales: dict[int, list[float]] = {0: [], 1: []}
    for seed in range(40):
        for key, quads in enumerate((huge, small)):
            matrix = choose_matrix(np.random.default_rng(seed), (800, 800), quads, 384, view)
            scales[key].append(float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))))
    assert (
        np.mean(np.array(scales[0]) * 600 <= (LARGEST_LINE + 0.01) * 384) > 0.6
    )  # some crops are not centred on a line
    assert np.allclose(scales[1], 1500 / 800)


@pytest.mark.parametrize("kind", VIEWS)
def test_crops_of_large_pages_show_little_border(kind: str) -> None:
    page = np.full((900, 1200, 3), 200, np.uint8)
    view = View((1500, 1500), tilt=0)
    for seed in range(10):
        matrix = choose_matrix(np.random.default_rng(seed), (900, 1200), np.zeros((0, 4, 2), np.float32), 320, view)
        assert (warp(page, matrix, 320, 0) == 0).mean() < 0.05
    assert VIEWS[kind].sides[0] < VIEWS[kind].sides[1]


def test_thin_lines_survive_strong_shrinking() -> None:
    page = np.zeros((800, 800, 3), np.uint8)
    page[:, ::8] = 255
    matrix = np.array([[0.125, 0, 0], [0, 0.125, 0]])
    assert warp(page, matrix, 100, 0)[10:90, 10:90].std() < 10  # averaged, not aliased to black or white


def test_looks_change_but_shape_and_type_do_not() -> None:
    page = np.full((64, 96, 3), 128, np.uint8)
    looks = [change_look(np.random.default_rng(seed), page) for seed in range(40)]
    assert all(look.shape == page.shape and look.dtype == np.uint8 for look in looks)
    assert sum(bool((look != page).any()) for look in looks) > 30
    assert (page == 128).all()
