"""What no shipped model may get grossly wrong, on pictures drawn by textless.py and lettered.py."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.evaluation.metrics import Counts, evaluate_image
from detector.models import WEIGHTS_FOLDER, list_models
from detector.postprocess import Box
from detector.predictor import TextDetector
from detector.profile import PROFILES
from tests.detector.lettered import Lettered, page, turned
from tests.detector.textless import HEIGHT, WIDTH, fence, text_free

pytestmark = pytest.mark.slow  # whole pages through every shipped model: 12 s

# Shortcomings of the present weights, on their cards too. Strict: once a model has learned it, its entry must go.
NOT_YET = {
    ("dbnet-mobilenet-v3-small", "fences"): "picket fences are taken for lines of text",
    ("dbnet-mobilenet-v3-small", "text-free"): "two grids of thin lines, of 18 drawn pictures, get a box",
}


def models(what: str) -> list[object]:
    """The shipped models; those that are known not to manage this are expected to fail."""
    parameters: list[object] = []
    for name in list_models(WEIGHTS_FOLDER):
        reason = NOT_YET.get((name, what))
        marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
        parameters.append(pytest.param(name, marks=marks))
    return parameters


@cache
def loaded(model: str, limit_side: int = 640, tiled: bool = False) -> TextDetector:
    """A detector, loaded once; with `profile.py`'s smallest size unless said otherwise."""
    return TextDetector(model, limit_side=limit_side, tiled=tiled)


def found_on(detector: TextDetector, sheet: Lettered, folder: Path) -> tuple[Counts, list[Box]]:
    """Hits and misses among a page's lines, from a file on disk as a user's would be, and the boxes."""
    path = folder / "page.png"
    sheet.picture.save(path, compress_level=1)
    boxes = detector.detect(path).boxes
    corners = [np.array(box.points) for box in boxes]
    return evaluate_image(list(sheet.quads), [False] * len(sheet.quads), corners), boxes


@pytest.mark.parametrize("model", models("blank"))
def test_a_blank_page_has_no_text(model: str) -> None:
    rng = np.random.default_rng(0)
    pages = [np.full((HEIGHT, WIDTH, 3), shade, np.uint8) for shade in (0, 128, 255)]
    pages += [rng.normal(235, spread, (HEIGHT, WIDTH, 3)).clip(0, 255).astype(np.uint8) for spread in (2, 12)]
    framed = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)  # a scanner's dark border around white paper
    framed[20:-20, 30:-30] = 250
    assert [len(loaded(model).detect_pixels(pixels)) for pixels in [*pages, framed]] == [0] * 6


@pytest.mark.parametrize("model", models("text-free"))
def test_pictures_without_text_give_at_most_one_box_in_ten(model: str) -> None:
    pictures = {name: pixels for name, pixels in text_free(2).items() if not name.startswith("fence")}
    false = {name: len(loaded(model).detect_pixels(pixels)) for name, pixels in pictures.items()}
    assert sum(false.values()) <= len(pictures) / 10, false


@pytest.mark.parametrize("model", models("fences"))
def test_fences_are_not_text(model: str) -> None:
    pictures = [fence(np.random.default_rng(number)) for number in range(5)]
    assert sum(len(loaded(model).detect_pixels(pixels)) for pixels in pictures) <= 1


@pytest.mark.parametrize("model", models("inverted"))
def test_white_on_black_is_read_like_black_on_white(model: str, tmp_path: Path) -> None:
    black, _ = found_on(loaded(model), page((900, 1200), 24, 40, 30, ink=25, paper=250), tmp_path)
    white, _ = found_on(loaded(model), page((900, 1200), 24, 40, 30, ink=250, paper=15), tmp_path)
    assert black.recall >= 0.95 and black.precision >= 0.95
    assert abs(white.matched - black.matched) <= 1 and abs(white.det - black.det) <= 2


@pytest.mark.parametrize("model", models("banners"))
@pytest.mark.parametrize(
    "sheet", [page((1600, 400), 3, 50, 70), page((400, 1600), 16, 10, 40), page((1200, 300), 1, 22, 120)]
)
def test_every_line_of_a_banner_and_of_a_column_is_found(model: str, sheet: Lettered, tmp_path: Path) -> None:
    counts, _ = found_on(loaded(model), sheet, tmp_path)
    assert counts.recall >= 0.9 and counts.precision >= 0.9, counts


@pytest.mark.parametrize("model", models("upside down"))
def test_a_page_upside_down_has_the_same_lines(model: str, tmp_path: Path) -> None:
    counts, _ = found_on(loaded(model), turned(page((900, 1200), 24, 40, 30), 2), tmp_path)
    assert counts.recall >= 0.95 and counts.precision >= 0.95, counts


@pytest.mark.parametrize("model", models("quarter turns"))
def test_a_page_on_its_side_has_the_same_lines(model: str, tmp_path: Path) -> None:
    for quarters in (1, 3):
        counts, _ = found_on(loaded(model), turned(page((900, 1200), 24, 40, 30), quarters), tmp_path)
        assert counts.recall >= 0.8 and counts.precision >= 0.8, counts


@pytest.mark.parametrize("model", models("dense page"))
def test_a_dense_page_at_300_dpi_in_tiles_keeps_its_lines_whole(model: str, tmp_path: Path) -> None:
    accurate = PROFILES["accurate"]
    sheet = page((2480, 3508), 60, 95, 40, margin=0.06)  # A4
    counts, boxes = found_on(loaded(model, accurate.limit_side, accurate.tiled), sheet, tmp_path)
    assert counts.gt == 60 and counts.recall >= 0.95, counts
    middles = np.array([np.mean(box.points, axis=0)[1] for box in boxes])
    parts = [int(np.sum((middles >= quad[0, 1]) & (middles <= quad[2, 1]))) for quad in sheet.quads]
    assert max(parts) == 1, f"lines split: {[line for line, count in enumerate(parts) if count > 1]}"


@pytest.mark.parametrize("model", models("blank"))
def test_a_blank_page_at_300_dpi_in_tiles_has_no_text(model: str, tmp_path: Path) -> None:
    accurate = PROFILES["accurate"]
    Image.new("RGB", (2480, 3508), (251, 250, 246)).save(tmp_path / "blank.png", compress_level=1)
    detection = loaded(model, accurate.limit_side, accurate.tiled).detect(tmp_path / "blank.png")
    assert "tiled" in detection.flags and detection.boxes == []
