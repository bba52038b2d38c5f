"""fp32 ONNX -> int8 ONNX: static QDQ, u8 activations, s8 per-channel weights of 7 bits.

Measured choices: unsigned activations run twice as fast as signed ones in ONNX Runtime on x86; DepthToSpace and Sigmoid
stay float (the map's last bits decide thin borders, and they cost nothing); MinMax calibration loses nothing here.

Weights are within -64 to 64: x86 processors without VNNI (AMD before Zen 4, Intel before Cascade Lake) add two products
of 8 bits in 16, where 2 * 255 * 127 is cut off at 32,767 and 2 * 255 * 64 is not. There, weights of 8 bits cost `slim`
4.5 points on receipts, ResNet-18 1 to 2.4 on documents and 1.4 of agreement with its teacher; of 7 bits nothing
("reduce_range", onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detector.convert.onnx_file import OnnxImportError, load_whole
from detector.errors import DetectorError
from detector.models import IMAGENET_MEAN, IMAGENET_STD, load_card

if TYPE_CHECKING:
    import onnx

FLOAT_OPERATORS = ("DepthToSpace", "Sigmoid")
CALIBRATION_IMAGES = 60
MOST_LOST = 0.015  # of hmean; int8 costs this network 0.3 points, so more means that something went wrong


class QuantizeError(DetectorError):
    """The model cannot be quantized as asked; one line."""


def check_model(path: Path) -> None:
    """Refuses what is no float model of ours, before any work.

    Raises:
        QuantizeError: not an ONNX file, weights that cannot be read, int8 already, or another input.
    """
    graph = _whole(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value for value in graph.input if value.name not in constants}
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.node):
        raise QuantizeError(f"{path}: is int8 already; give the fp32 file that it was made from")
    if list(inputs) != ["image"]:
        raise QuantizeError(
            f"{path}: expected the input 'image', found {list(inputs)}; ocr-detector import-weights takes it over"
        )
    rank = len(inputs["image"].type.tensor_type.shape.dim)
    if rank != 4:
        raise QuantizeError(f"{path}: its input has {rank} dimensions, not (N, 3, H, W); ocr-detector export makes one")


def _whole(path: Path) -> onnx.ModelProto:
    try:
        return load_whole(path)
    except OnnxImportError as error:
        raise QuantizeError(f"{path}: {error}; ocr-detector export makes one") from None


@contextmanager
def _alone(path: Path) -> Iterator[Path]:
    """The model as one file of a folder of its own: libraries look for its weights beside each copy that they make."""
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "model.onnx"
        alone.write_bytes(_whole(path).SerializeToString())
        yield alone


def fixed_size(path: Path) -> tuple[int, int] | None:
    """Height and width of the only input that an ONNX file takes; None if they are free."""
    import onnx

    shape = onnx.load(str(path), load_external_data=False).graph.input[0].type.tensor_type.shape.dim
    height, width = (dim.dim_value for dim in shape[2:])
    return (height, width) if height and width else None


def calibration_batches(
    images: Sequence[Path],
    limit_side: int,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    size: tuple[int, int] | None = None,
    *,
    stretch: bool = False,
) -> Iterator[dict[str, np.ndarray]]:
    """Inputs as the predictor makes them, one image each.

    Args:
        images: files; unreadable ones raise an ImageError.
        limit_side: longest side, pixels.
        mean: of the model's card, as is std.
        std: of RGB in [0, 1].
        size: (height, width) of a model that takes no other; pages are shrunk and padded to it.
        stretch: of the model's card.
    """
    from detector.images.page import open_page
    from detector.predictor import normalise

    for image in images:
        batch = normalise(open_page(image, limit_side=min(size or (limit_side,))).pixels, mean, std, stretch=stretch)
        if size:  # the mean colour, which is what the predictor pads with, right and below
            batch = batch[:, :, : size[0], : size[1]]
            batch = np.pad(batch, ((0, 0), (0, 0), (0, size[0] - batch.shape[2]), (0, size[1] - batch.shape[3])))
        yield {"image": batch}


def spread(images: Sequence[Path], count: int) -> list[Path]:
    """``count`` images evenly spread over a sequence: every part of a data set has its say."""
    if len(images) <= count:
        return list(images)
    return [images[int(i)] for i in np.linspace(0, len(images) - 1, count)]


def spread_evenly(sets: Sequence[Sequence[Path]], count: int) -> list[Path]:
    """``count`` images, as many of each set as of any other, as far as it has them; sets are not empty."""
    return [image for images in sets for image in spread(images, max(1, count // len(sets)))]


def quantize_static(source: Path, target: Path, images: Sequence[Path], *, limit_side: int = 640) -> None:
    """Writes the int8 model.

    Args:
        source: fp32 ONNX file; the card beside it, if any, tells mean and std.
        target: where the int8 file goes.
        images: calibration images, typical of the pages to come; 60 do.
        limit_side: longest side at calibration, pixels.

    Raises:
        QuantizeError: no images.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from detector.convert.float_stem import float_stem, name_nodes
    from detector.convert.space_to_depth import space_to_depth_stem

    if not images:
        raise QuantizeError("no calibration images: give --images with some typical pages")

    card, size = load_card(source), fixed_size(source)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = calibration_batches(images, limit_side, card.mean, card.std, size, stretch=card.stretch)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._batches, None)

    with _alone(source) as alone:
        prepared = alone.with_name("prepared.onnx")
        # Symbolic shapes cannot be inferred through a free height and width; the fusions are what we want.
        quant_pre_process(str(alone), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(str(prepared))
        nodes = graph.graph.node
        name_nodes(nodes)
        onnx.save(graph, str(prepared))
        unfinished = alone.with_name("int8.onnx")
        quantization.quantize_static(
            str(prepared),
            str(unfinished),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            nodes_to_exclude=[node.name for node in nodes if node.op_type in FLOAT_OPERATORS] + float_stem(nodes),
        )
        model = onnx.load(str(unfinished))
        space_to_depth_stem(model)
        target.write_bytes(model.SerializeToString())


def quantize_dynamic(source: Path, target: Path) -> int:
    """Quantizes the weights of fully connected layers only; returns how many nodes changed (in a DBNet: none)."""
    import onnx
    from onnxruntime import quantization

    with _alone(source) as alone:
        quantization.quantize_dynamic(str(alone), str(target), op_types_to_quantize=["MatMul", "Gemm"])
    nodes = onnx.load(str(target)).graph.node
    return sum(node.op_type in ("MatMulInteger", "DynamicQuantizeLinear") for node in nodes)
