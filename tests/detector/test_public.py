"""The names that `from detector import ...` promises, and that a host program is left as it was."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import detector

PROMISED = {
    "Box",
    "CorruptImage",
    "Detection",
    "DetectorError",
    "ImageError",
    "ModelError",
    "ModelInfo",
    "NetworkFailed",
    "NotFound",
    "TextDetector",
    "Thresholds",
    "TooLarge",
    "UnsupportedFormat",
    "configure_process",
}

# What malloc does with 28 MiB after 30 MiB were freed: left alone glibc has raised its threshold and takes the heap;
# once mallopt(M_MMAP_THRESHOLD) was called, the block is a mapping of its own (mallinfo2's hblks).
MALLOC = """
import ctypes
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks h1 h2 h3 h4 h5 h6".split()]
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.mallinfo2.restype = Info
def mapped_apart():
    libc.free(libc.malloc(30 << 20))
    before = libc.mallinfo2().hblks
    block = libc.malloc(28 << 20)
    after = libc.mallinfo2().hblks
    libc.free(block)
    return after > before
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_names() -> None:
    assert set(detector.__all__) == PROMISED
    for name in PROMISED:
        assert getattr(detector, name).__name__ == name
    assert set(dir(detector)) >= PROMISED
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = detector.Nonsense  # type: ignore[attr-defined]
    assert issubclass(detector.ImageError, detector.DetectorError)
    assert not issubclass(detector.ModelError, detector.ImageError)


def test_importing_loads_nothing_heavy_until_a_name_is_used() -> None:
    heavy = "{'numpy', 'cv2', 'PIL', 'onnxruntime', 'torch', 'msgspec'} & set(sys.modules)"
    assert run(f"import sys, detector; print({heavy})").strip() == "set()"
    assert run(f"import sys; from detector import DetectorError; print({heavy})").strip() == "set()"
    assert "numpy" in run(f"import sys; from detector import TextDetector; print({heavy})")


def test_the_example_of_the_documentation_runs(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    text = (root / "docs" / "python.md").read_text(encoding="utf-8")
    first, second = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    photo = root / "docs" / "sample.jpg"
    output = run(f"import os\nos.chdir({str(tmp_path)!r})\nos.symlink({str(photo)!r}, 'photo.jpg')\n{second}\n{first}")
    assert len(output.splitlines()) > 3
    assert all(re.match(r"\(\(\d+\.\d+, ", line) for line in output.splitlines())
    assert [name for name in PROMISED if name not in text] == []
    assert set(re.findall(r"from detector import (\w+)", text)) <= PROMISED


@pytest.mark.parametrize(
    ("then", "expected"),
    [("", "(3, 12345, False)"), ("detector.configure_process()", "(1, 12345, True)")],
    ids=["as it was", "unless it asks"],
)
def test_the_host_program_is_left_as_it_was(tmp_path: Path, tiny_model: Path, then: str, expected: str) -> None:
    """PIL's limit, OpenCV's threads and malloc, after a large page in tiles; the second case shows that it is seen."""
    Image.fromarray(np.full((1700, 1300, 3), 200, np.uint8)).save(tmp_path / "page.png")
    code = f"""
{MALLOC}
import cv2, PIL.Image
cv2.setNumThreads(3)
PIL.Image.MAX_IMAGE_PIXELS = 12345
import detector
found = detector.TextDetector({str(tiny_model)!r}, tiled=True).detect({str(tmp_path / "page.png")!r})
assert (found.width, found.height) == (1300, 1700)
{then}
print((cv2.getNumThreads(), PIL.Image.MAX_IMAGE_PIXELS, mapped_apart()))
"""
    assert run(code).strip() == expected
