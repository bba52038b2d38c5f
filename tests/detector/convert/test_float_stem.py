"""A stem that ends in a hard swish stays float: its channels differ too much for one scale."""

from __future__ import annotations

import onnx
import pytest
from onnx import NodeProto, helper

from detector.convert.float_stem import float_stem, name_nodes
from detector.models import weights_path


def node(kind: str, inputs: str, output: str) -> NodeProto:
    return helper.make_node(kind, inputs.split(), [output])


SWISH = [node("HardSigmoid", "a", "b"), node("Mul", "a b", "c")]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node("Conv", "image", "a"), *SWISH, node("Conv", "c", "d"), node("Conv", "d", "e")], [0, 1, 2, 3]),
        ([node("Conv", "image", "a"), node("HardSwish", "a", "c"), node("Conv", "c", "d")], [0, 1, 2]),
        ([node("Conv", "image", "a"), node("Relu", "a", "c"), node("Conv", "c", "d")], []),
        ([node("Conv", "image", "a"), *SWISH, node("Add", "a c", "d")], []),
        ([node("Relu", "image", "a")], []),
    ],
)
def test_which_nodes(nodes: list[NodeProto], expected: list[int]) -> None:
    name_nodes(nodes)
    assert len({one.name for one in nodes}) == len(nodes)
    assert float_stem(nodes) == [nodes[number].name for number in expected]


def test_the_shipped_files() -> None:
    """Of MobileNet the first two convolutions read float; of ResNet-18 none does."""
    for name, floats in (("dbnet-mobilenet-v3-small", [True, True, False]), ("dbnet-resnet18", [False, False, False])):
        nodes = onnx.load(str(weights_path(name))).graph.node
        made_by = {output: one.op_type for one in nodes for output in one.output}
        convolutions = [one for one in nodes if one.op_type == "Conv"][:3]
        assert [made_by.get(one.input[1]) != "DequantizeLinear" for one in convolutions] == floats
