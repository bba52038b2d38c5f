"""`ocr-detector` where the extra "torch" is not installed: it names what is missing, and the rest works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TORCH_EXTRA = ("torch", "torchvision", "torch_pruning", "safetensors", "onnx", "matplotlib")


@pytest.fixture(scope="module")
def no_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which nothing of the extra "torch" can be imported."""
    folder = tmp_path_factory.mktemp("site")
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in TORCH_EXTRA)
    (folder / "sitecustomize.py").write_text("import sys\n" + blocked)
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(Path(__file__).parents[3])))}


def detect_alone(place: Path, environment: dict[str, str], words: str) -> subprocess.CompletedProcess[str]:
    """A command of `ocr-detector` in a process of its own."""
    command = [sys.executable, "-m", "detector.cli", *words.split()]
    return subprocess.run(command, capture_output=True, text=True, cwd=place, env=environment)


@pytest.mark.parametrize(
    ("words", "package"),
    [
        ("train --data data -o run", "torch"),
        ("export -o x.onnx", "torch"),
        ("quantize model.onnx --images data/train_images -o x.onnx", "onnx"),
        ("import-weights keys.pt -o x.safetensors", "torch"),
        ("detect data/val_images --runtime torch", "torch"),
        ("evaluate --data data --runtime torch", "torch"),
    ],
)
def test_without_torch_the_extra_is_named(place: Path, no_torch: dict[str, str], words: str, package: str) -> None:
    done = detect_alone(place, no_torch, words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == f"this needs {package}, which is not installed: pip install 'ocrfleet[torch]'"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("detect data/val_images --model model.onnx", '"status": "ok"'),
        ("evaluate --data data --model model.onnx", "onnxruntime-fp32"),
        ("models", "dbnet-resnet18"),
        ("tune --model model.onnx --limit-side 64 --seconds 0.01 --threads 1 -o t.json", "not installed"),
        ("--help", "train"),
    ],
)
def test_without_torch_the_rest_works(place: Path, no_torch: dict[str, str], words: str, says: str) -> None:
    done = detect_alone(place, no_torch, words)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout
