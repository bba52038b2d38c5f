"""Weights of 7 bits: processors without VNNI cut off the sum of two products of 8 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from detector.models import list_models, weights_path

MOST_SUM = 2**15 - 1
"""Of two products, in the registers of such a processor (vpmaddubsw)."""


def largest_sum(path: Path) -> int:
    """Of two products of activations (255 at most) with weights of an int8 file's convolutions."""
    tensors = onnx.load(str(path)).graph.initializer
    weights = [numpy_helper.to_array(tensor) for tensor in tensors if tensor.data_type == TensorProto.INT8]
    return 2 * 255 * max(int(np.abs(values.astype(int)).max()) for values in weights if values.ndim == 4)


@pytest.mark.parametrize("name", list_models(weights_path("dbnet-resnet18").parent))
def test_shipped_weights_are_the_same_network_on_every_processor(name: str) -> None:
    assert largest_sum(weights_path(name)) <= MOST_SUM
