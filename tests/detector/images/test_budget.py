"""How small pages become, and what decoding them really costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detector.images.budget import estimate_bytes
from detector.images.page import open_page, page_header
from detector.images.sizes import STRIDE, box_reduction, jpeg_reduction, target_size

SIDES = st.integers(1, 200_000)
LIMITS = st.integers(64, 2048)


@given(SIDES, SIDES, LIMITS)
def test_target_is_never_larger_and_never_costs_more_than_a_square(width: int, height: int, limit: int) -> None:
    wide, high = target_size(width, height, limit)
    assert 1 <= wide <= width
    assert 1 <= high <= height
    thin = max(width, height) >= 4 * min(width, height)  # run in tiles: the network sees less at a time
    assert max(wide, STRIDE) * max(high, STRIDE) <= (2 if thin else 1) * limit * limit * 1.05 + 2 * limit
    if max(width, height) <= 2 * min(width, height):
        assert max(wide, high) <= limit
    elif max(width, height) >= 4 * min(width, height) and width * height > limit * limit:
        assert max(wide, STRIDE) * max(high, STRIDE) >= limit * limit / 4  # a long page is not starved


@given(st.integers(100, 20_000), st.integers(100, 20_000), st.integers(320, 2048))
def test_target_keeps_the_shape(width: int, height: int, limit: int) -> None:
    wide, high = target_size(width, height, limit)
    # each side is rounded to a whole pixel
    assert abs(wide / width - high / height) <= 0.51 / width + 0.51 / height


@given(SIDES, SIDES, LIMITS)
def test_target_turns_with_the_page(width: int, height: int, limit: int) -> None:
    assert target_size(width, height, limit) == target_size(height, width, limit)[::-1]


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [
        ((1280, 960), 640, (640, 480)),
        ((640, 480), 640, (640, 480)),
        ((30, 20), 640, (30, 20)),
        ((600, 7484), 960, (256, 3193)),  # not 77x960: a long page keeps what a square picture may cost
        ((20000, 50), 640, (12800, 32)),
        ((50, 20000), 640, (32, 12800)),
        ((8000, 400), 640, (3200, 160)),
        ((1_000_000, 1), 640, (12800, 1)),
    ],
)
def test_target_examples(size: tuple[int, int], limit: int, expected: tuple[int, int]) -> None:
    assert target_size(*size, limit) == expected


def test_reductions_stay_at_or_above_the_target() -> None:
    assert jpeg_reduction(4000, 3000, (640, 480)) == 4
    assert jpeg_reduction(10328, 7746, (640, 480)) == 8
    assert jpeg_reduction(1279, 959, (640, 480)) == 2  # libjpeg rounds up: 640x480
    assert jpeg_reduction(1278, 959, (640, 480)) == 1
    assert box_reduction(1919, 1440, (640, 480)) == 2
    assert box_reduction(100, 100, (100, 100)) == 1


OPEN_AND_MEASURE = """
import sys
from pathlib import Path
import cv2, numpy, pyvips
from detector.images.page import open_page
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
page = open_page(Path(sys.argv[1]), limit_side=640, max_bytes=1 << 40)
print(peak() - before, *page.pixels.shape)
"""


def peak_growth_bytes(path: Path) -> int:
    """How far a fresh process grows while it opens a page."""
    environment = {**os.environ, "VIPS_CONCURRENCY": "1"}
    command = [sys.executable, "-c", OPEN_AND_MEASURE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    grown, *shape = map(int, done.stdout.split())
    assert max(shape) == 640
    return grown * 1024


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one 80-megapixel picture as baseline JPEG, and 12 megapixels of it in other formats."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(1)
    picture = cv2.resize(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8), (10000, 8000))
    cv2.imwrite(str(folder / "baseline.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
    half = cv2.resize(picture, (4000, 3200), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(folder / "plain.png"), half, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    cv2.imwrite(str(folder / "progressive.jpg"), half, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    cv2.imwrite(str(folder / "photo.webp"), half, [cv2.IMWRITE_WEBP_QUALITY, 60])
    Image.fromarray(half).save(folder / "strips.tif", compression="tiff_lzw")
    Image.fromarray(half).save(folder / "one-strip.tif", compression="tiff_lzw", tiffinfo={278: 3200})
    return folder


@pytest.mark.parametrize(
    ("name", "most_mb"),
    [
        ("baseline.jpg", 30),
        ("plain.png", 60),
        ("progressive.jpg", 90),
        ("photo.webp", 30),
        ("strips.tif", 40),
        ("one-strip.tif", 100),
    ],
)
def test_large_pictures_in_little_memory(large: Path, name: str, most_mb: int) -> None:
    grown = peak_growth_bytes(large / name)
    estimated = estimate_bytes(page_header(large / name), 640)
    assert grown < most_mb * 2**20
    assert grown < estimated + 10 * 2**20, "the estimate must not promise less than it takes"


@pytest.mark.slow
def test_large_jpeg_colours_survive(large: Path) -> None:
    by_jpeg = open_page(large / "baseline.jpg", limit_side=640).pixels.astype(int)
    by_png = open_page(large / "plain.png", limit_side=640).pixels.astype(int)
    assert np.abs(by_jpeg - by_png).mean() < 2
