"""What a page may cost is decided before it is decoded, from the worker's memory limit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.errors import TooLarge
from detector.images.budget import check_budget, estimate_bytes
from detector.images.header import Header, _orientation
from detector.images.page import open_page, page_header
from detector.memory import RESERVE_BYTES, SMALLEST_BUDGET_BYTES, decode_budget, resident_bytes
from detector.predictor import TextDetector
from tests.detector.test_predictor import page_with_bright_line
from worker.detection import ImageRunner
from worker.settings import read_settings

MB = 2**20


def test_the_budget_is_the_limit_less_what_is_held() -> None:
    assert decode_budget(256 * MB, 100 * MB) == 156 * MB - RESERVE_BYTES
    assert decode_budget(64 * MB, 100 * MB) == SMALLEST_BUDGET_BYTES
    assert 20 * MB < resident_bytes() < 4096 * MB


def test_a_worker_passes_its_memory_limit_on() -> None:
    settings = read_settings({"OCRFLEET_MEMORY_LIMIT_MB": "3000", "OCRFLEET_PROFILE": "low"})
    detector = ImageRunner(settings).detector()
    assert detector.memory_limit == 3000 * MB
    tight = read_settings({"OCRFLEET_MEMORY_LIMIT_MB": "64", "OCRFLEET_PROFILE": "low"})
    assert ImageRunner(tight).detector().max_bytes == SMALLEST_BUDGET_BYTES


@pytest.mark.slow
def test_over_budget_names_the_setting(tmp_path: Path, tiny_model: Path) -> None:
    path = tmp_path / "scan.jpg"
    page_with_bright_line(4000, 3000).save(path, progressive=True)
    detector = TextDetector(tiny_model, memory_limit=resident_bytes() + 30 * MB)
    with pytest.raises(TooLarge, match=r"scan\.jpg: progressive JPEG .* raise OCRFLEET_MEMORY_LIMIT_MB"):
        detector.detect(path)
    assert TextDetector(tiny_model, memory_limit=resident_bytes() + 300 * MB).detect(path).boxes


@pytest.mark.parametrize(
    ("header", "remedy"),
    [
        (Header("png", 393_536, 480, streams=True), "cut it into smaller pictures"),  # before: save it as plain PNG
        (Header("png", 12_000, 9000, held_bytes=800 * MB), "save it as baseline JPEG"),
        (Header("jpeg", 12_000, 9000, held_bytes=400 * MB), "save it as baseline JPEG"),
        (Header("webp", 16_000, 12_000, channels=4), "save it as baseline JPEG"),
        (Header("tiff", 100_000, 2000, channels=4, bytes_per_pixel=8, streams=True), "cut it into smaller pictures"),
        (Header("gif", 66_000, 700), "save it as 8-bit RGB PNG"),  # no JPEG is so wide
        (Header("pdf", 2000, 2000), ""),
    ],
)
def test_the_remedy_is_one(header: Header, remedy: str) -> None:
    """What a message advises is weighed as the page was, and would pass."""
    with pytest.raises(TooLarge) as refused:
        check_budget(header, "a", 640, 2**40, 160 * MB if header.kind != "pdf" else 16 * MB)
    said = str(refused.value).partition("MiB are allowed; ")[2]
    assert said.startswith(remedy) and said.endswith("raise OCRFLEET_MEMORY_LIMIT_MB")


@pytest.mark.slow
def test_what_the_network_cannot_hold_whole_is_run_in_tiles(tmp_path: Path, tiny_model: Path) -> None:
    path = tmp_path / "plan.jpg"
    page_with_bright_line(2000, 1500).save(path)
    tight = TextDetector(tiny_model, limit_side=2048, memory_limit=resident_bytes() + 120 * MB).detect(path)
    roomy = TextDetector(tiny_model, limit_side=2048, memory_limit=resident_bytes() + 500 * MB).detect(path)
    assert tight.flags == ("tiled",) and roomy.flags == ()
    assert tight.input_size == roomy.input_size == (1500, 2000)
    assert len(tight.boxes) == len(roomy.boxes) == 1


def test_deep_samples_are_weighed(tmp_path: Path) -> None:
    """16 bits a sample: twice the bytes, and a copy of 8 bits. In a process of its own: its peak is what counts."""
    path = tmp_path / "deep.tif"
    samples = np.full((2800, 2800, 3), 40_000, np.uint16)
    assert cv2.imwrite(str(path), samples)
    estimate = estimate_bytes(page_header(path), 1440)
    program = (
        "import sys; from pathlib import Path\n"
        "from detector.images.page import open_page; from detector.memory import peak_rss_mb\n"
        "import pyvips; before = peak_rss_mb(); open_page(Path(sys.argv[1]), limit_side=1440)\n"
        "print(peak_rss_mb() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert float(done.stdout) <= estimate / MB


@pytest.mark.slow
def test_a_baseline_jpeg_over_budget_is_decoded_smaller(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    page_with_bright_line(4000, 3000).save(path)
    page = open_page(path, limit_side=4000, max_bytes=40 * MB)
    assert "degraded" in page.flags
    assert (page.width, page.height) == (4000, 3000)
    assert 320 <= max(page.pixels.shape) < 4000
    assert "degraded" not in open_page(path, limit_side=4000).flags


@pytest.mark.slow
def test_room_is_made_only_when_it_is_needed(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = tmp_path / "small.png", tmp_path / "large.jpg"
    page_with_bright_line(700, 500).save(small)
    page_with_bright_line(5000, 4000).save(large, progressive=True)
    detector = TextDetector(tiny_model, memory_limit=resident_bytes() + 120 * MB)
    released: list[bool] = []
    monkeypatch.setattr(detector._runtime, "release", lambda: released.append(True))
    detector.detect(small)
    assert not released
    ballast = np.ones(60 * MB, np.uint8)  # what an arena would hold
    detector.detect(large)
    assert released
    assert ballast.any()


@pytest.mark.parametrize("error", [MemoryError, TimeoutError, type("SoftTimeLimitExceeded", (Exception,), {})])
def test_damaged_exif_hides_neither_a_time_limit_nor_lack_of_memory(error: type[Exception]) -> None:
    def parse() -> Image.Exif:
        raise error

    if error is TimeoutError:  # an OSError: a truncated block reads like this
        assert _orientation(parse) == 1
        return
    with pytest.raises(error):
        _orientation(parse)


MIXED_SHAPES = """
import sys
from pathlib import Path
from detector.memory import resident_bytes
from detector.predictor import TextDetector
from worker.process import configure_malloc
configure_malloc()
detector = TextDetector(limit_side=int(sys.argv[1]))
for name in sys.argv[2:]:
    detector.detect(Path(name))
    print(resident_bytes() >> 20)
"""


def test_strips_and_odd_shapes_leave_no_memory_behind(tmp_path: Path) -> None:
    sizes = [(1100, 1100), (1500, 1000), (20000, 50), (60, 9000), (3000, 290), (1000, 1500), (200, 120), (1100, 1100)]
    paths = [tmp_path / f"{number}.jpg" for number in range(len(sizes))]
    for path, (width, height) in zip(paths, sizes, strict=True):
        noise = np.random.default_rng(1).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
        cv2.imwrite(str(path), cv2.resize(noise, (width, height)))
    done = subprocess.run(
        [sys.executable, "-c", MIXED_SHAPES, "640", *map(str, 2 * paths)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    held = [int(line) for line in done.stdout.split()]
    assert len(held) == 2 * len(sizes)
    assert max(held) <= held[0] + 20, held  # a square page of ordinary shape needs most, whatever came before
    assert max(held[len(sizes) :]) <= max(held[: len(sizes)]) + 8, held
