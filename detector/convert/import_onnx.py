"""Any DB-family ONNX file -> one that keeps this project's contract, compared with the original before it is written.

The contract (detector/README.md, "Models"): input "image" float32 (N, 3, H, W) RGB, any height and width; output
"probability" float32 (N, 1, H, W) in [0, 1]. Mean and std stay the model's own; they go on its card.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from detector.convert.onnx_file import OnnxImportError
from detector.errors import first_line
from detector.models import IMAGENET_MEAN, IMAGENET_STD
from detector.runtimes.onnx_alone import onnx_options

if TYPE_CHECKING:
    import onnx

Triple = tuple[float, float, float]
Batch = npt.NDArray[np.float32]
Step = tuple[Any, ...]  # operator, attributes, constants given as further inputs

OPSET = 17
"""Files below 13 are brought to this: per-channel int8 needs 13, and 17 is what our own exports have."""

TOLERANCE = 1e-3
OTHER_SIZES = ((320, 320), (352, 608))  # tried besides the one that the file fixes, if it does


@dataclass(frozen=True, slots=True)
class Convention:
    """What a family of networks wants its pixels to be, and the thresholds it is used with.

    Attributes:
        name: for people.
        bgr: channel order of the input.
        mean, std: of values in [0, 1], in that channel order.
        binarize, box_threshold, unclip_ratio: see `detector.thresholds.Thresholds`.
        stretch: see `detector.models.ModelCard`.
    """

    name: str
    bgr: bool
    mean: Triple
    std: Triple
    binarize: float = 0.3
    box_threshold: float = 0.5
    unclip_ratio: float = 1.5
    stretch: bool = False

    def rgb(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std in the order R, G, B."""
        return (self.mean[::-1], self.std[::-1]) if self.bgr else (self.mean, self.std)


CONVENTIONS = {
    # tools/infer/predict_det.py and the det configurations of PaddleOCR: ImageNet's constants on cv2's BGR.
    # Its thresholds (0.3 / 0.6 / 1.5) are for scores over rectangles that are measured between pixel centres; ours are
    # over the region's pixels, and a pixel wider. PP-OCRv6 small on 81 photos, 94 receipts and 69 forms of training
    # sets: .878 .902 .861 as PaddleOCR does it, .841 .845 .827 with its numbers here, .887 .923 .868 with these.
    "ppocr": Convention("PP-OCR", True, IMAGENET_MEAN, IMAGENET_STD, 0.4, 0.7, 1.2, stretch=True),
    # OpenCV's tutorial "TextDetectionModel and TextRecognitionModel", the same constants as MhLiao/DB's demo.py.
    "db": Convention(
        "MhLiao/DB, OpenCV, ModelScope",
        True,
        (122.67891434 / 255, 116.66876762 / 255, 104.00698793 / 255),
        (1.0, 1.0, 1.0),
    ),
    "imagenet": Convention(
        "RGB with ImageNet's mean and std (MMOCR, this project)", False, IMAGENET_MEAN, IMAGENET_STD
    ),
}

# sha1 in OpenCV's tutorial: DB_IC15_resnet50, DB_IC15_resnet18, DB_TD500_resnet50, DB_TD500_resnet18.
_OPENCV_SHA1 = (
    "9a562c2a8fa3d95fbecd2d45690fb4f787fd496a",
    "b215b5fb85d1c606d1f56f03e8c841025e72733d",
    "6d3b7b84fc23906be7d583a8cedef727cc351fad",
    "dd19abe7e2326ac660ce2733be1cb7032f76d458",
)
_MARKS = {
    "ppocr": ("p2o.", "sigmoid_0.tmp", "save_infer_model", "fetch_name"),
    "db": ("decoder.binarize", "decoder/binarize", "decoder.in2", "decoder/in2"),
    "imagenet": ("det_head", "bbox_head"),
}
"""Parts of the names of weights, nodes and outputs that give a family away."""


def recognise(model: onnx.ModelProto, file: Path) -> str | None:
    """The convention of a network by the names in it (and of OpenCV's models by their checksum); None if unknown."""
    graph = model.graph
    outputs = [item.name for item in graph.output]
    if [item.name for item in graph.input[:1]] == ["image"] and outputs == ["probability"]:
        return "imagenet"
    names = [*outputs, *(item.name for item in graph.initializer), *(item.name for item in graph.node)]
    for family, marks in _MARKS.items():
        if any(mark in name for name in names for mark in marks):
            return family
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, partial(hashlib.sha1, usedforsecurity=False)).hexdigest()
    known = digest in _OPENCV_SHA1 or any(data in file.name for data in ("DB_TD500_", "DB_IC15_"))
    return "db" if known else None


class Session:
    """A network in ONNX Runtime, for comparisons.

    Raises:
        OnnxImportError: it does not load, or (when called) not run.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        import onnxruntime

        options = onnx_options()
        options.log_severity_level = 4  # what goes wrong is said once, in our words
        options.intra_op_num_threads = 1
        with _in_one_line():
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )

    def __call__(self, batch: Batch) -> Batch:
        """The first output for a (1, 3, H, W) batch, as float32."""
        (given, *_), (output, *_) = self._session.get_inputs(), self._session.get_outputs()
        kind = np.float16 if given.type == "tensor(float16)" else np.float32
        with _in_one_line():
            found = self._session.run([output.name], {given.name: np.ascontiguousarray(batch, kind)})[0]
        return np.asarray(found, np.float32)


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # onnxruntime's own exceptions have no public base class.
        if not (type(error).__module__.startswith("onnxruntime") or isinstance(error, RuntimeError | ValueError)):
            raise
        raise OnnxImportError(f"ONNX Runtime cannot run it: {first_line(error, 200)}") from None


def convert(source: onnx.ModelProto, convention: Convention) -> tuple[onnx.ModelProto, float]:
    """The same network with the contract's names, channel order, free sizes and output, compared with the original.

    Returns:
        The network, and the largest difference of its map from the original's on the same noise (float32 of the same
        weights: about 1e-6).

    Raises:
        OnnxImportError: it has not one image input, its output is no map of the input's size, or it works at the size
            that it was exported at alone.
    """
    given = _image_input(source)
    fixed, original = _sides(given), Session(source)
    sample = _noise(fixed or (64, 96))
    maps = [original(sample * factor) for factor in (0.0, 1.0, 3.0)]
    _check_map(maps[0].shape, sample.shape)
    logits = any(values.min() < -1e-3 or values.max() > 1 + 1e-3 for values in maps)
    model = _rewrite(source, given, convention.bgr, maps[0].shape, logits)
    rewritten = Session(model)
    for size in OTHER_SIZES:
        _check_free(rewritten, size, fixed)
    differences = []
    for size in (fixed,) if fixed else OTHER_SIZES:
        batch = _noise(size)
        truth = original(batch[:, ::-1] if convention.bgr else batch)
        truth = truth[:, :1] if truth.ndim == 4 else truth[:, None]
        expected = np.exp(-np.logaddexp(0, -truth)) if logits else truth
        differences.append(float(np.abs(rewritten(batch) - expected).max()))
    return model, max(differences)


def _rewrite(
    source: onnx.ModelProto, given: onnx.ValueInfoProto, bgr: bool, shape: tuple[int, ...], logits: bool
) -> onnx.ModelProto:
    import onnx
    from onnx import TensorProto, helper

    # Every name gets a prefix, so that none of theirs is one of ours.
    model = onnx.compose.add_prefix(_modern(source), "network/")
    graph, image = model.graph, f"network/{given.name}"
    half = given.type.tensor_type.elem_type == TensorProto.FLOAT16
    before: list[Step] = [("Cast", {"to": TensorProto.FLOAT16})] if half else []
    if bgr and not _flip_first_convolutions(graph, image):
        before.append(("Gather", {"axis": 1}, [2, 1, 0]))
    half = graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    after: list[Step] = [("Cast", {"to": TensorProto.FLOAT})] if half else []
    if len(shape) == 3:
        after.append(("Unsqueeze", {}, [1]))
    elif shape[1] > 1:  # MMOCR before 1.0: probability, threshold and binary map in one
        after.append(("Gather", {"axis": 1}, [0]))
    if logits:
        after.append(("Sigmoid", {}))
    first = _chain(graph, "image", before, image)
    last = _chain(graph, graph.output[0].name, after, "probability")
    nodes = [*first, *graph.node, *last]
    for field in (graph.node, graph.input, graph.output):
        del field[:]
    graph.node.extend(nodes)
    free = ("batch", "height", "width")
    for channels, name, field in ((3, "image", graph.input), (1, "probability", graph.output)):
        field.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [free[0], channels, *free[1:]]))
    return model


def _check_free(network: Session, size: tuple[int, int], fixed: tuple[int, int] | None) -> None:
    try:
        found = network(_noise(size)).shape
    except OnnxImportError:
        if fixed is None:
            raise
        found = ()
    if found != (1, 1, *size):
        where = f"{fixed[0]}x{fixed[1]} alone" if fixed else "some sizes alone"
        raise OnnxImportError(f"works at {where}; export it again with dynamic height and width")


def _image_input(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    import onnx

    weights = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in weights]
    if len(inputs) == 1 and model.graph.output:
        tensor = inputs[0].type.tensor_type
        channels = tensor.shape.dim[1].dim_value if len(tensor.shape.dim) == 4 else None
        if tensor.elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16) and channels in (0, 3):
            image: onnx.ValueInfoProto = inputs[0]
            return image
    shapes = [[dim.dim_value or "?" for dim in item.type.tensor_type.shape.dim] for item in inputs]
    raise OnnxImportError(f"no DB-family network: it takes {shapes} instead of one float image (N, 3, H, W)")


def _sides(given: onnx.ValueInfoProto) -> tuple[int, int] | None:
    """Height and width if the file fixes them."""
    height, width = (dim.dim_value for dim in given.type.tensor_type.shape.dim[2:])
    return (height, width) if height > 0 and width > 0 else None


def _check_map(found: tuple[int, ...], given: tuple[int, ...]) -> None:
    map_like = len(found) == 3 or (len(found) == 4 and found[1] in (1, 2, 3))
    if not map_like or found[0] != 1 or found[-2:] != given[-2:]:
        raise OnnxImportError(
            f"no DB-family network: for an image {given} it gives {found} instead of a map (1, 1, H, W)"
        )


def _modern(source: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in a version that can be quantized, without weights among the inputs, without shapes of one size."""
    import onnx
    from onnx import version_converter

    model = onnx.ModelProto()
    model.CopyFrom(source)
    version = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)
    if version < 13:
        try:
            model = version_converter.convert_version(model, OPSET)
        except RuntimeError:  # an operator without a converter; all but quantizing works in the old version too
            model.CopyFrom(source)
    model.ir_version = max(model.ir_version, 8)
    del model.graph.value_info[:]
    weights = {item.name for item in model.graph.initializer}
    images = [item for item in model.graph.input if item.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(images)
    return model


def _flip_first_convolutions(graph: onnx.GraphProto, image: str) -> bool:
    """Turns the input channels of the convolutions that read the image round; False if something else reads it."""
    from onnx import numpy_helper

    readers = [node for node in graph.node if image in node.input]
    weights = {item.name: item for item in graph.initializer}
    uses = [name for node in graph.node for name in node.input]
    for node in readers:
        kernel = weights.get(node.input[1]) if node.op_type == "Conv" else None
        if kernel is None or kernel.dims[1] != 3 or uses.count(kernel.name) > 1:
            return False
    for node in readers:
        kernel = weights[node.input[1]]
        kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel)[:, ::-1].copy(), kernel.name))
    return bool(readers)


def _chain(graph: onnx.GraphProto, start: str, steps: list[Step], end: str) -> list[onnx.NodeProto]:
    """Nodes from one tensor to another; their constants are added to the graph's weights."""
    from onnx import helper, numpy_helper

    nodes = []
    for number, (operator, attributes, *constants) in enumerate(steps or [("Identity", {})]):
        inputs = [start]
        for constant in constants:
            inputs.append(f"{start}/{operator}")
            graph.initializer.append(numpy_helper.from_array(np.array(constant, np.int64), inputs[-1]))
        start = end if number >= len(steps) - 1 else f"{start}/{number}"
        nodes.append(helper.make_node(operator, inputs, [start], f"{start}/{operator}/node", **attributes))
    return nodes


def _noise(size: tuple[int, int]) -> Batch:
    return np.random.default_rng(0).standard_normal((1, 3, *size), dtype=np.float32)
