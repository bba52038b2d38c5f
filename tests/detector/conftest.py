"""What the detector's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.memory import configure_malloc
from tests.detector.tiny_model import write_tiny_model


@pytest.fixture(scope="session", autouse=True)
def keep_memory_for_the_next_step() -> None:
    """As `ocr-detector train` does: mapping the same tensors anew at each step was a tenth of these tests' time."""
    configure_malloc(training=True)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .onnx file for which bright pixels are text."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "bright.fp32.onnx")
