"""A hand-made network that keeps the ONNX contract: bright pixels are text. Its answer to any picture is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_tiny_model(path: Path, *, input_name: str = "image", sides: tuple[int | str, int | str] = ("h", "w")) -> Path:
    """probability = sigmoid(40 * (mean of the normalised channels - 1)): white is 1, grey and darker is 0."""
    kernel = numpy_helper.from_array(np.full((1, 3, 1, 1), 40 / 3, np.float32), "kernel")
    bias = numpy_helper.from_array(np.array([-40.0], np.float32), "bias")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", [input_name, "kernel", "bias"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["probability"]),
        ],
        "bright-is-text",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["n", 3, *sides])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 1, *sides])],
        [kernel, bias],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
