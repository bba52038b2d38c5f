"""What a header hides, or what a library keeps besides the rows, is in the estimate that admits a page."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.images.budget import estimate_bytes
from detector.images.page import page_header
from tests.hostile import animated_webp, jpeg2000, wide_png

MIB = 2**20
OPEN_AND_MEASURE = """
import sys
from pathlib import Path
import cv2, numpy
from detector.images.page import open_page
from detector.memory import configure_malloc, peak_rss_mb
configure_malloc(2)
before = peak_rss_mb()
open_page(Path(sys.argv[1]), limit_side=640, max_bytes=1 << 40)
print(peak_rss_mb() - before)
"""


def growth_bytes(path: Path) -> float:
    """How far a fresh process grows while it opens a page."""
    environment = {**os.environ, "VIPS_CONCURRENCY": "1"}
    command = [sys.executable, "-c", OPEN_AND_MEASURE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout) * MIB


def animation(path: Path) -> None:
    path.write_bytes(animated_webp(4000))


def panorama(path: Path) -> None:
    path.write_bytes(wide_png(100_000, 900))


def transparency(path: Path) -> None:
    cells = np.random.default_rng(0).integers(0, 255, (300, 300, 4), np.uint8)
    Image.fromarray(cells.repeat(12, 0).repeat(12, 1), "RGBA").save(path, "WEBP", quality=80, method=0)


@pytest.mark.parametrize(("make", "hidden_mib"), [(animation, 100), (panorama, 150), (transparency, 20)])
def test_the_estimate_covers_it(make: Callable[[Path], None], hidden_mib: int, tmp_path: Path) -> None:
    """Before: an animation of 16 megapixels grew by 115 MiB, estimated at 50; a panorama by 217, estimated at 63."""
    path = tmp_path / "page"
    make(path)
    estimated = estimate_bytes(page_header(path), 640)
    assert growth_bytes(path) <= estimated
    assert estimated > hidden_mib * MIB


def test_jpeg_2000_names_the_limit(tmp_path: Path) -> None:
    """OpenJPEG says `broken data stream` when memory runs out; before, so did the record."""
    path = tmp_path / "precincts.jp2"
    path.write_bytes(jpeg2000())
    words = ["detect", str(path), "--profile", "low", "--memory-limit-mb", "192"]
    done = subprocess.run([sys.executable, "-m", "detector.cli", *words], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "cannot be decoded within 192 MiB" in done.stdout
