"""A hand-made recogniser: every 8 columns are a step, and colours are characters. Its answer to any strip is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

COLOURS = {"a": (255, 0, 0), "b": (0, 255, 0), "c": (0, 0, 255), " ": (255, 255, 0)}
"""Of the upper half of a strip; the lower half is not looked at, so that a strip upside down reads as nothing."""

HEIGHT = 48
SHARPNESS = 8.0


def write_tiny_reader(path: Path, *, characters: str | None = "a\nb\nc\n", classes: int = 5) -> Path:
    """An .onnx file that keeps a recogniser's contract: red is a, green b, blue c, yellow a space, all else blank."""
    kernel = np.zeros((classes, 3, HEIGHT, 8), np.float32)
    share = SHARPNESS / (HEIGHT // 2 * 8)
    for number, colour in enumerate(COLOURS.values(), 1):
        if number < classes:
            for channel, value in enumerate(reversed(colour)):  # the network takes BGR
                kernel[number, channel, : HEIGHT // 2] = share if value else -share
    bias = np.zeros(classes, np.float32)
    bias[0] = 2 * SHARPNESS
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "kernel", "bias"], ["columns"], strides=[HEIGHT, 8]),
            helper.make_node("Squeeze", ["columns", "axis"], ["steps"]),
            helper.make_node("Transpose", ["steps"], ["turned"], perm=[0, 2, 1]),
            helper.make_node("Softmax", ["turned"], ["y"], axis=2),
        ],
        "colours-are-characters",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, HEIGHT, "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "t", classes])],
        [
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(bias, "bias"),
            numpy_helper.from_array(np.array([2], np.int64), "axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if characters is not None:
        helper.set_model_props(model, {"character": characters})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def strip(text: str, wide: int = 16, height: int = HEIGHT) -> np.ndarray:
    """(height, W, 3) uint8 RGB that reads as the text: a character is 2 steps of colour and 1 of black, a space too."""
    pixels = np.zeros((height, (wide + 8) * len(text), 3), np.uint8)
    for number, char in enumerate(text):
        left = number * (wide + 8)
        pixels[: height // 2, left : left + wide] = COLOURS[char]
    return pixels
