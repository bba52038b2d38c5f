from pathlib import Path

import numpy as np
import pytest

from detector.annotations import find_problems, read_split
from detector.training.synth import make_page, render
from detector.training.synth_document import make_document
from detector.training.synth_scene import make_scene
from detector.training.synth_text import draw_ink, find_faces, simplified_characters, traditional_characters


def test_characters_of_the_standards() -> None:
    assert len(simplified_characters()) == 3755 and simplified_characters()[0] == "啊"
    assert len(traditional_characters()) >= 5400 and "國" in traditional_characters()


def test_ink_is_cropped_and_vertical_text_is_tall() -> None:
    face = find_faces()[0][0]
    flat, tall = draw_ink(face, "EXIT 42", 30), draw_ink(face, "EXIT", 30, vertical=True)
    assert flat is not None and tall is not None
    assert flat.shape[1] > 2 * flat.shape[0] and tall.shape[0] > 2 * tall.shape[1]
    assert flat[0].max() > 40 and flat[:, -1].max() > 40
    assert draw_ink(face, " ", 30) is None


def test_boxes_of_a_scene_hold_the_ink() -> None:
    photo = np.full((480, 640, 3), 127, np.uint8)
    found = 0
    for seed in range(6):
        picture, quads = make_scene(np.random.default_rng(seed), photo)
        assert picture.shape == photo.shape
        for quad in quads:
            x0, y0 = np.floor(quad.min(axis=0)).astype(int).clip(0)
            x1, y1 = np.ceil(quad.max(axis=0)).astype(int)
            found += bool(picture[y0:y1, x0:x1].std() > 3)
    assert found >= 5


@pytest.mark.parametrize("seed", range(8))
def test_documents_have_lines_inside_the_page(seed: int) -> None:
    pixels, quads = make_document(np.random.default_rng(seed))
    assert len(quads) > 3
    assert quads.min() > -3 and quads[..., 0].max() < pixels.shape[1] + 3 and quads[..., 1].max() < pixels.shape[0] + 3


def test_pages_are_reproducible_and_readable(tmp_path: Path) -> None:
    one, again = make_page(7, 3, []), make_page(7, 3, [])
    assert np.array_equal(one[0], again[0]) and np.array_equal(one[1], again[1])
    assert render(tmp_path, range(4), []) > 0
    assert render(tmp_path, range(4), []) == 0  # they are there already
    assert find_problems(tmp_path) == [] and len(read_split(tmp_path, "train")) == 4
