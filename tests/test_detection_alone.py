"""Who only detects pays nothing for reading, shapes and documents: no package, no module, no memory."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
BASE = {"celery", "kombu", "redis", "click", "rich", "msgspec", "fsspec", "pypdf"}
WORKER = {
    "numpy", "pillow", "opencv-python-headless", "shapely", "onnxruntime", "pyvips", "pyvips-binary", "pypdfium2",
    "psutil",
}  # fmt: skip
# What reading, polygons, searchable PDFs and the page are made of.
NEVER = (
    "detector.reading.reader", "detector.reading.recogniser", "detector.reading.order", "detector.reading.crop",
    "shapely", "pyclipper", "pikepdf", "img2pdf", "lxml", "starlette", "torch",
)  # fmt: skip
DETECT = """
import sys
import numpy as np
from worker.tasks import _runner
detector = _runner().detector()
assert detector.detect(np.full((320, 320, 3), 200, np.uint8)).lines is None
print(*sys.modules)
"""


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~ ;]", requirement)[0].lower() for requirement in requirements}


def test_base_and_worker_installs_have_no_package_more() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert names(project["dependencies"]) == BASE
    assert names(project["optional-dependencies"]["worker"]) == WORKER


def test_a_worker_that_detects_loads_nothing_of_the_rest() -> None:
    done = subprocess.run([sys.executable, "-c", DETECT], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert "detector.postprocess" in loaded
    assert loaded.isdisjoint(NEVER), loaded & set(NEVER)


def test_who_only_counts_the_pages_of_pdfs_loads_no_decoder() -> None:
    code = "import sys, detector.images.count_pages, pypdfium2; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(done.stdout.split()).isdisjoint({"cv2", "numpy", "PIL"})
