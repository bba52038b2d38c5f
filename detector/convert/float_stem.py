"""What of a network's beginning stays float in an int8 file: a stem that ends in a hard swish.

Its channels, whose normalisation was folded into the convolution, differ far in range, and MinMax gives them all one
scale. Measured on dbnet-mobilenet-v3-small, 24 photos at 640, the map's mean squared error against fp32: everything
int8 16.2e-4, the stem float 12.3e-4, with the depthwise convolution that follows 1.8e-4; one thread 22.1, 21.4 and
20.6 ms. That convolution has three taps a row of one channel: int8 saves nothing there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import NodeProto


def name_nodes(nodes: Sequence[NodeProto]) -> None:
    """Names those that fusions left without: quantizers leave nodes out by name, and "" is the name of all of them."""
    for number, node in enumerate(nodes):
        node.name = node.name or f"{node.op_type}_{number}"


def float_stem(nodes: Sequence[NodeProto]) -> list[str]:
    """Names of the nodes to leave float; none where the first convolution ends in something else.

    Args:
        nodes: of the fp32 graph, in its order, named.
    """

    def after(name: str) -> list[NodeProto]:
        return [node for node in nodes if name in node.input]

    stem = next((node for node in nodes if node.op_type == "Conv"), None)
    if stem is None:
        return []
    swish = after(stem.output[0])
    if sorted(node.op_type for node in swish) not in (["HardSwish"], ["HardSigmoid", "Mul"]):
        return []
    last = next(node for node in swish if node.op_type != "HardSigmoid")
    following = [node for node in after(last.output[0]) if node.op_type == "Conv"]
    return [node.name for node in (stem, *swish, *following)]
