"""The first layer of an int8 network, rearranged: the same numbers in less time and much less memory.

A 7x7 convolution of stride 2 over three colours suits no fast kernel: ONNX Runtime copies the 147 values around every
output pixel into a buffer of its own (60 MB at 1280x1280). With each 2x2 block of pixels written as twelve channels
(SpaceToDepth) it is a 4x4 convolution of stride 1, which runs in place. Measured on dbnet-resnet18 at 640x640, one
thread: 4 % less time, peak memory 36 MB lower; at 1280x960 80 MB lower. OpenVINO's time does not change. The answers
are the same to the last bit: the weights only change places, and the taps added to an odd kernel are zero.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

BLOCK = 2


def space_to_depth_stem(model: ModelProto) -> bool:
    """Rearranges the first convolution of a quantized (QDQ) model, in place.

    Args:
        model: its input "image" goes through QuantizeLinear and DequantizeLinear into a square convolution of stride 2
            with odd kernel and "same" padding. Anything else is left as it is.

    Returns:
        Whether the model was changed.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    found = _first_convolution(list(graph.node))
    if found is None:
        return False
    quantize, dequantize, weight_dequantize, convolution = found
    attributes = {item.name: helper.get_attribute_value(item) for item in convolution.attribute}
    kernel = weights.get(weight_dequantize.input[0])
    if kernel is None or not _suits(attributes, list(kernel.dims)):
        return False
    half = kernel.dims[2] // 2
    before, after = -math.floor(-half / BLOCK), half // BLOCK
    kernel.CopyFrom(numpy_helper.from_array(space_to_depth_kernel(numpy_helper.to_array(kernel)), kernel.name))
    side = before + after + 1
    convolution.ClearField("attribute")
    for name, value in (
        ("dilations", [1, 1]),
        ("group", 1),
        ("kernel_shape", [side, side]),
        ("pads", [before, before, after, after]),
        ("strides", [1, 1]),
    ):
        convolution.attribute.append(helper.make_attribute(name, value))
    blocks = f"{quantize.output[0]}_blocks"
    node = helper.make_node("SpaceToDepth", [quantize.output[0]], [blocks], name=blocks, blocksize=BLOCK)
    dequantize.input[0] = blocks
    graph.node.insert(list(graph.node).index(dequantize), node)
    del graph.value_info[:]  # shapes of what is no more
    return True


def space_to_depth_kernel(kernel: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The weights of a stride-2 convolution as those of a stride-1 convolution over 2x2 blocks.

    Output pixel i of the first reads input i*2 + u - half; with u - half = 2*a + p that is row p of block i + a.

    Args:
        kernel: (O, C, K, K), K odd.

    Returns:
        (O, 4*C, S, S) of the same dtype, channels in the order of ONNX SpaceToDepth: row in block, column, colour.
    """
    outputs, colours, size, _ = kernel.shape
    half = size // 2
    before, after = -math.floor(-half / BLOCK), half // BLOCK
    side = before + after + 1
    # In the frame of whole blocks the kernel starts `2 * before - half` pixels in.
    lead = BLOCK * before - half
    framed = np.zeros((outputs, colours, BLOCK * side, BLOCK * side), kernel.dtype)
    framed[:, :, lead : lead + size, lead : lead + size] = kernel
    blocks = framed.reshape(outputs, colours, side, BLOCK, side, BLOCK)
    return np.ascontiguousarray(
        blocks.transpose(0, 3, 5, 1, 2, 4).reshape(outputs, BLOCK * BLOCK * colours, side, side)
    )


def _first_convolution(nodes: list[NodeProto]) -> tuple[NodeProto, NodeProto, NodeProto, NodeProto] | None:
    """(QuantizeLinear, DequantizeLinear, the weights' DequantizeLinear, Conv) that begin the graph."""
    makers = {output: node for node in nodes for output in node.output}
    readers: dict[str, list[NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    chain = []
    name = "image"
    for operator in ("QuantizeLinear", "DequantizeLinear", "Conv"):
        following = readers.get(name, [])
        if len(following) != 1 or following[0].op_type != operator:
            return None
        chain.append(following[0])
        name = following[0].output[0]
    weights = makers.get(chain[2].input[1])
    if weights is None or weights.op_type != "DequantizeLinear":
        return None
    return chain[0], chain[1], weights, chain[2]


def _suits(attributes: dict[str, Any], dims: list[int]) -> bool:
    size = dims[2]
    return (
        len(dims) == 4
        and dims[2] == dims[3]
        and size % 2 == 1
        and list(attributes.get("strides", [])) == [BLOCK, BLOCK]
        and list(attributes.get("pads", [])) == [size // 2] * 4
        and attributes.get("group", 1) == 1
        and all(step == 1 for step in attributes.get("dilations", []))
    )
