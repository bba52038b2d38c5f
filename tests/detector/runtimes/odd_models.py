"""Hand-made networks that do not keep the contract, each in a way of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper


def _convolution(value: float, side: int = 1, **attributes: list[int]) -> tuple[list[NodeProto], list[TensorProto]]:
    kernel = numpy_helper.from_array(np.full((1, 3, side, side), value, np.float32), "kernel")
    return [helper.make_node("Conv", ["image", "kernel"], ["probability"], **attributes)], [kernel]


def _bright_is_nan() -> tuple[list[NodeProto], list[TensorProto]]:
    """The root of what is negative on white pixels alone: such as half precision that overflows on some pages."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["one", "mean"], ["darkness"]),
        helper.make_node("Sqrt", ["darkness"], ["probability"]),
    ]
    return nodes, [numpy_helper.from_array(np.array(2.0, np.float32), "one")]


def _enlarged() -> tuple[list[NodeProto], list[TensorProto]]:
    by = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "by")
    return [helper.make_node("Resize", ["image", "", "by"], ["probability"], mode="nearest")], [by]


ODD = {
    "nan": lambda: _convolution(np.nan),
    "infinite": lambda: _convolution(3e38),
    "nan-on-white": _bright_is_nan,
    "quarter": lambda: _convolution(0.1, 4, strides=[4, 4]),
    "enlarged": _enlarged,
    "three-channels": lambda: ([helper.make_node("Sigmoid", ["image"], ["probability"])], []),
    "scalar": lambda: ([helper.make_node("ReduceMean", ["image"], ["probability"], keepdims=0)], []),
    "shape": lambda: ([helper.make_node("Shape", ["image"], ["probability"])], []),
    "bytes": lambda: (
        [
            helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1], keepdims=1),
            helper.make_node("Cast", ["mean"], ["probability"], to=TensorProto.UINT8),
        ],
        [],
    ),
    "text": lambda: ([helper.make_node("Cast", ["image"], ["probability"], to=TensorProto.STRING)], []),
    "list": lambda: ([helper.make_node("SequenceConstruct", ["image"], ["probability"])], []),
}
"""By what is wrong with the output "probability"; each is made by calling its value."""


def write_odd_model(path: Path, what: str) -> Path:
    """An .onnx file of one of `ODD`."""
    nodes, constants = ODD[what]()
    kinds = {"shape": TensorProto.INT64, "bytes": TensorProto.UINT8, "text": TensorProto.STRING}
    output = helper.make_tensor_value_info("probability", kinds.get(what, TensorProto.FLOAT), None)
    if what == "list":
        item = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
        output = helper.make_value_info("probability", helper.make_sequence_type_proto(item))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])
    graph = helper.make_graph(nodes, "odd", [image], [output], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path
