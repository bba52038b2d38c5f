"""The rearranged first layer gives the same numbers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from detector.convert.space_to_depth import space_to_depth_kernel, space_to_depth_stem


def quantized_stem(size: int, stride: int = 2, pad: int | None = None) -> onnx.ModelProto:
    """A QDQ model of one convolution, 3 -> 16 channels, as onnxruntime.quantization writes it."""
    random = np.random.default_rng(size)
    constants = {
        "scale": np.float32(0.02),
        "zero": np.uint8(114),
        "weight": random.integers(-127, 128, (16, 3, size, size), np.int8),
        "weight_scale": random.uniform(0.001, 0.01, 16).astype(np.float32),
        "weight_zero": np.zeros(16, np.int8),
        "bias": random.integers(-500, 500, 16, np.int32),
        "bias_scale": np.full(16, 1e-4, np.float32),
        "bias_zero": np.zeros(16, np.int32),
        "out_scale": np.float32(0.1),
    }
    pads = [size // 2 if pad is None else pad] * 4
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["image_u8"]),
        helper.make_node("DequantizeLinear", ["image_u8", "scale", "zero"], ["image_q"]),
        helper.make_node("DequantizeLinear", ["weight", "weight_scale", "weight_zero"], ["weight_q"], axis=0),
        helper.make_node("DequantizeLinear", ["bias", "bias_scale", "bias_zero"], ["bias_q"], axis=0),
        helper.make_node("Conv", ["image_q", "weight_q", "bias_q"], ["conv"], pads=pads, strides=[stride] * 2),
        helper.make_node("QuantizeLinear", ["conv", "out_scale", "zero"], ["conv_u8"]),
        helper.make_node("DequantizeLinear", ["conv_u8", "out_scale", "zero"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "stem",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 16, None, None])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def run(model: onnx.ModelProto, batch: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": batch})[0]


@pytest.mark.parametrize("size", [3, 5, 7])
def test_the_same_numbers(size: int) -> None:
    batch = np.random.default_rng(0).standard_normal((1, 3, 64, 96), np.float32)
    model = quantized_stem(size)
    expected = run(model, batch)
    assert len(np.unique(expected)) > 50
    assert space_to_depth_stem(model)
    onnx.checker.check_model(model)
    assert {node.op_type for node in model.graph.node} >= {"SpaceToDepth", "Conv"}
    found = run(model, batch)
    assert expected.shape == (1, 16, 32, 48)
    assert np.array_equal(found, expected)


def test_kernels_of_every_odd_size_keep_their_weights() -> None:
    for size in (1, 3, 5, 7, 9, 11):
        kernel = np.arange(1, 2 * 3 * size * size + 1).reshape(2, 3, size, size)
        split = space_to_depth_kernel(kernel)
        assert split.shape[1] == 12
        assert np.array_equal(np.sort(split[split > 0]), np.sort(kernel.ravel()))


def test_other_first_layers_stay_as_they_are() -> None:
    for model in (quantized_stem(3, stride=1), quantized_stem(4, pad=1), quantized_stem(7, pad=0)):
        before = model.SerializeToString()
        assert not space_to_depth_stem(model)
        assert model.SerializeToString() == before
    model = quantized_stem(3)
    model.graph.node.insert(0, helper.make_node("Identity", ["image"], ["copy"]))  # somebody else reads the image
    assert not space_to_depth_stem(model)
