"""What the detector's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.detector.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .onnx file for which bright pixels are text."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "bright.fp32.onnx")
