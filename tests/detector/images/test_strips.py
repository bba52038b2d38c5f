"""Large pages read in strips are the same pages, in a fraction of their memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.errors import CorruptImage, TooLarge
from detector.images import budget as image_budget
from detector.images.page import open_page, open_strips, page_header
from detector.predictor import TextDetector
from detector.tiling import Rows
from tests.detector.samples import save_oriented
from tests.detector.test_predictor import expected_box, page_with_bright_line


@pytest.fixture(autouse=True)
def strips_from_the_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_budget, "STRIPS_FROM_BYTES", 1)


def soft_picture(width: int = 900, height: int = 700) -> Image.Image:
    """Soft colours: decoders and kernels agree on them to a few levels."""
    coarse = np.random.default_rng(1).integers(0, 256, (7, 9, 3), np.uint8)
    return Image.fromarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def read_all(rows: Rows, high: int, step: int) -> np.ndarray:
    """Overlapping strips laid over each other; where they overlap they must agree."""
    page = np.zeros((rows.height, rows.width, 3), np.uint8)
    known = 0
    for top in [*range(0, rows.height - high, step), rows.height - high]:
        strip = rows.rows(top, top + high)
        assert strip.shape == (high, rows.width, 3)
        assert np.array_equal(page[top:known], strip[: known - top])
        page[top : top + high] = strip
        known = top + high
    return page


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("limit_side", [900, 640, 200])
def test_strips_are_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, mode: str, limit_side: int
) -> None:
    monkeypatch.setattr(image_budget, "VIPS_FROM_PIXELS", 1)
    path = tmp_path / f"soft.{suffix}"
    soft_picture().convert(mode).save(path, quality=95)
    whole = open_page(path, limit_side=limit_side)
    with open_strips(path, limit_side=limit_side) as page:
        assert page is not None
        assert (page.width, page.height, page.flags) == (whole.width, whole.height, whole.flags)
        pixels = read_all(page.strips, 100, 37)
    assert pixels.shape == whole.pixels.shape
    difference = np.abs(pixels.astype(int) - whole.pixels)
    assert difference.mean() < 1.5
    assert np.percentile(difference, 99) <= 6


@pytest.mark.slow
def test_what_must_be_held_whole_is_not_read_in_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "deep.tif"
    Image.fromarray(np.full((300, 400), 3000, np.uint16)).save(deep)
    progressive = tmp_path / "progressive.jpg"
    soft_picture().save(progressive, progressive=True)
    turned = save_oriented(soft_picture(), 6, tmp_path / "turned.jpg")
    gif = tmp_path / "soft.gif"
    soft_picture().save(gif)
    pdf = tmp_path / "soft.pdf"
    soft_picture().save(pdf)
    for path in (deep, progressive, turned, gif, pdf):
        with open_strips(path, limit_side=640) as page:
            assert page is None, path
    monkeypatch.setattr(image_budget, "STRIPS_FROM_BYTES", 24 * 2**20)
    soft_picture().save(tmp_path / "small.jpg")
    with open_strips(tmp_path / "small.jpg", limit_side=640) as page:
        assert page is None


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_cut_file_is_corrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, tiny_model: Path) -> None:
    monkeypatch.setattr(image_budget, "VIPS_FROM_PIXELS", 1)
    path = tmp_path / f"cut.{suffix}"
    soft_picture(1500, 1100).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(CorruptImage, match=f"cut.{suffix}"):
        TextDetector(tiny_model, limit_side=1500, tiled=True).detect(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["restart.jpg", "cut.jpg"])
def test_a_damaged_page_is_so_in_strips_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, tiny_model: Path
) -> None:
    """Before: no flag and no share, or failed where the same page was `ok` and `damaged` without tiles."""
    monkeypatch.setattr(image_budget, "VIPS_FROM_PIXELS", 1)
    path = tmp_path / name
    soft_picture(1500, 1100).save(path, restart_marker_rows=1)
    data = path.read_bytes()
    if name == "cut.jpg":
        path.write_bytes(data[: len(data) * 95 // 100])
    else:
        path.write_bytes(data[: len(data) // 2] + bytes(40) + data[len(data) // 2 + 40 :])
    whole, tiled = (TextDetector(tiny_model, limit_side=1500, tiled=tiled).detect(path) for tiled in (False, True))
    assert "damaged" in whole.flags and "damaged" in tiled.flags
    assert whole.share is not None and tiled.share == pytest.approx(whole.share, abs=0.01)


def test_a_harmless_remark_keeps_a_page_in_strips(tmp_path: Path) -> None:
    """Some cameras leave a few bytes before the end marker: no reason to hold 48 megapixels whole."""
    path = tmp_path / "camera.jpg"
    soft_picture().save(path, quality=95)
    jpeg = path.read_bytes()
    with open_strips(path, limit_side=900) as page:
        assert page is not None
        sound = read_all(page.strips, 100, 37)
    path.write_bytes(jpeg[:-2] + bytes(4) + jpeg[-2:])
    with open_strips(path, limit_side=900) as page:
        assert page is not None
        assert np.array_equal(read_all(page.strips, 100, 37), sound)


def test_too_large_even_in_strips(tmp_path: Path) -> None:
    path = tmp_path / "soft.jpg"
    soft_picture().save(path)
    with pytest.raises(TooLarge, match=r"soft\.jpg"), open_strips(path, limit_side=900, max_bytes=1_000_000):
        pass
    with open_strips(path, limit_side=900, max_bytes=2**20 * 47) as page:
        assert page is not None
        assert page.flags == ("downscaled", "degraded")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_boxes_of_a_page_in_strips(tmp_path: Path, tiny_model: Path, suffix: str) -> None:
    path = tmp_path / f"page.{suffix}"
    page_with_bright_line(1700, 1300).save(path)
    found = TextDetector(tiny_model, limit_side=1700, tiled=True).detect(path)
    assert found.flags == ("tiled",)
    assert found.input_size == (1300, 1700)
    (box,) = found.boxes
    assert np.abs(np.array(box.points) - expected_box(1.0)).max() < 3


@pytest.mark.slow
@pytest.mark.parametrize("own_descriptor", [True, False])  # where the system gives libvips one, and where not
def test_a_page_of_an_open_file_is_read_in_strips_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path, own_descriptor: bool
) -> None:
    """Workers pass files, and open them again for the overview. Before: "the file is empty (0 bytes)"."""
    monkeypatch.setattr(image_budget, "VIPS_FROM_PIXELS", 1)
    path = tmp_path / "page.png"
    page_with_bright_line(2100, 1700).save(path)
    detector = TextDetector(tiny_model, limit_side=2100, tiled=True)
    expected = detector.detect(path).boxes
    if not own_descriptor:
        monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(OSError))
    with path.open("rb") as file:
        assert [detector.detect(file).boxes for _ in range(2)] == [expected] * 2
        assert file.tell() == 0 and file.read() == path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("from_bytes", [1, 2**40])
@pytest.mark.parametrize("size", [(3000, 1900), (20_000, 300), (250, 9_000)])
def test_overviews_of_overviews_come_to_an_end(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], from_bytes: int
) -> None:
    monkeypatch.setattr(image_budget, "STRIPS_FROM_BYTES", from_bytes)
    path = tmp_path / "page.png"
    width, height = size
    page = Image.new("RGB", size, (20, 20, 20))
    line = (width // 4, height // 3, width // 4 * 3, height // 2)
    page.paste((255, 255, 255), line)
    page.save(path)
    found = TextDetector(tiny_model, limit_side=8192, tiled=True).detect(path)
    assert "tiled" in found.flags
    (box,) = found.boxes
    centre = np.array(box.points).mean(axis=0)
    assert centre == pytest.approx([(line[0] + line[2]) / 2, (line[1] + line[3]) / 2], abs=4)
    assert box.score > 0.9


def test_48_megapixels_at_full_size_in_a_fraction_of_their_memory(tmp_path: Path, tiny_model: Path) -> None:
    path = tmp_path / "large.jpg"
    page = np.full((6000, 8000, 3), 20, np.uint8)
    page[3000:3100, 500:7500] = 255
    cv2.imwrite(str(path), page)
    program = """
import sys
from pathlib import Path
from detector import TextDetector, configure_process
configure_process()
def memory(field):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith(field)) / 1024
detector = TextDetector(Path(sys.argv[1]), limit_side=8192, tiled=True)
before = memory("VmRSS")
found = detector.detect(Path(sys.argv[2]))
assert found.input_size == (6000, 8000), found.input_size
assert len(found.boxes) == 1 and found.boxes[0].points[2][0] > 7500, found.boxes
print(memory("VmHWM") - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny_model), str(path)], capture_output=True, text=True, check=True
    )
    grown = float(done.stdout) * 2**20
    assert grown < image_budget.estimate_strip_bytes(page_header(path), 8192)
    assert grown < page.nbytes + 3 * 6000 * 8000 - 50 * 2**20  # less than page and maps together, by far
