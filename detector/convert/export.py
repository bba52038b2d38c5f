"""Network -> ONNX, run and compared before anybody relies on it. torch is imported only inside the functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detector.atomic import atomic_write
from detector.convert.interrupts import interrupt_later
from detector.errors import DetectorError, ModelError
from detector.exit_codes import ExitCode
from detector.images.sizes import STRIDE
from detector.models import card_file, read_card
from detector.runtimes.onnx_alone import onnx_options, read_onnx

if TYPE_CHECKING:
    from detector.network.dbnet import DBNet

SMALLEST, LARGEST = 320, 1536
TOLERANCE = 1e-3
HALF_TOLERANCE = 2e-2
DYNAMIC_SIZES = ((320, 320), (640, 480), (352, 800))
"""Heights and widths, pixels, at which a file that takes every size is compared with torch."""


class ExportError(DetectorError):
    """The export was refused or its result is not the same network; one line."""

    exit_code = ExitCode.FAILED


class SideError(ExportError):
    """The asked size is none that a network can have."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest difference of the exported file from torch, by the runtime that ran it.

    Attributes:
        runtime: 'onnxruntime' or 'openvino'.
        size: (height, width) of the input.
        difference: largest absolute difference of the probability.
    """

    runtime: str
    size: tuple[int, int]
    difference: float


def check_side(pixels: int) -> int:
    """Returns the side if a network can have it.

    Raises:
        SideError: not a multiple of 32 or not within 320..1536, naming the nearest good one.
    """
    nearest = min(max(round(pixels / STRIDE) * STRIDE, SMALLEST), LARGEST)
    if pixels != nearest:
        raise SideError(
            f"side {pixels} is not possible: sides are multiples of {STRIDE} from {SMALLEST} to {LARGEST}; "
            f"the nearest is {nearest}"
        )
    return pixels


def export_onnx(
    network: DBNet,
    path: Path,
    size: tuple[int, int] = (800, 800),
    *,
    dynamic: bool = False,
    opset: int = 17,
    half: bool = False,
) -> list[Parity]:
    """Writes the probability branch as ONNX (BatchNorm folded, threshold head left out), then runs it.

    Input "image" (N, 3, H, W) float32, output "probability" (N, 1, H, W) float32, also with ``half``.

    Args:
        network: in eval mode, on the CPU.
        path: the file to write; it is replaced only if the comparison passes.
        size: (height, width).
        dynamic: batch, height and width stay free; ``size`` is only the traced example.
        opset: of ONNX.
        half: weights and arithmetic in fp16.

    Returns:
        What was compared.

    Raises:
        ExportError: a bad size, or a difference above 1e-3 (fp16: 2e-2).
    """
    import torch

    height, width = check_side(size[0]), check_side(size[1])
    network = network.eval()
    example = torch.zeros(1, 3, height, width)
    axes = {0: "batch", 2: "height", 3: "width"}
    with atomic_write(path, sync=True) as unfinished:
        with torch.inference_mode(), interrupt_later():
            # The legacy exporter: it folds BatchNorm, needs no extra package, and keeps the graph small and plain.
            torch.onnx.export(
                network,
                (example,),
                str(unfinished),
                input_names=["image"],
                output_names=["probability"],
                dynamic_axes={"image": axes, "probability": axes} if dynamic else None,
                opset_version=opset,
                dynamo=False,
            )
        if half:
            _to_half(unfinished)
        parities = compare(network, unfinished, _test_sizes(height, width, dynamic))
        limit = HALF_TOLERANCE if half else TOLERANCE
        broken = [item for item in parities if not item.difference <= limit]
        if broken:
            worst = max(broken, key=lambda item: item.difference)
            raise ExportError(
                f"{path}: not written, {worst.runtime} differs from torch by {worst.difference:.2g} "
                f"(at most {limit:g}) at {worst.size[0]}x{worst.size[1]}"
            )
    return parities


def pass_card_on(source: Path, target: Path) -> Path | None:
    """Writes beside a file made of a model what its card says about its use: thresholds, mean and std, backbone.

    Without it the same network would be used with other thresholds and find other boxes.

    Args:
        source: the weights or model that ``target`` was made of.
        target: the new file.

    Returns:
        The card; None if there was none to pass on, or if a .json that is no card is in its place.

    Raises:
        ModelError: the source's card cannot be read.
    """
    old, new = card_file(source), card_file(target)
    if not old.is_file() or old.absolute() == new.absolute():
        return None
    card = read_card(old)
    if new.is_file():
        try:
            known = "binarize" in read_card(new)
        except ModelError:
            known = False
        if not known:
            return None
    # The checksum and scores are those of another file.
    kept = {key: value for key, value in card.items() if key not in ("sha256", "files", "scores", "name")}
    stem = new.name.removesuffix(".json")
    passed_on = {"name": stem, "from": card.get("name", old.stem), **kept}
    with atomic_write(new, sync=True) as unfinished:
        unfinished.write_text(json.dumps(passed_on, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return new


def _test_sizes(height: int, width: int, dynamic: bool) -> list[tuple[int, int]]:
    return list(DYNAMIC_SIZES) if dynamic else [(height, width)]


def compare(network: DBNet, path: Path, sizes: Sequence[tuple[int, int]]) -> list[Parity]:
    """Runs the file with ONNX Runtime (and OpenVINO, if installed) and torch on the same noise."""
    import torch

    random = np.random.default_rng(0)
    batches = [random.standard_normal((1, 3, *size), dtype=np.float32) for size in sizes]
    with torch.inference_mode():
        expected = [network(torch.from_numpy(batch)).numpy() for batch in batches]
    parities = []
    for name, run in _runners(path).items():
        for size, batch, truth in zip(sizes, batches, expected, strict=True):
            parities.append(Parity(name, size, float(np.abs(run(batch) - truth).max())))
    return parities


def _runners(path: Path) -> dict[str, Any]:
    """Functions (batch -> probability) of the runtimes that are installed."""
    import onnxruntime

    options = onnx_options()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    runners: dict[str, Any] = {"onnxruntime": lambda batch: session.run(["probability"], {"image": batch})[0]}
    try:
        import openvino
    except ImportError:
        return runners
    # The file's own precision: on CPUs with bf16 OpenVINO would otherwise compute in it and differ by 1e-2.
    compiled = openvino.Core().compile_model(read_onnx(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    runners["openvino"] = lambda batch: compiled([batch])[0]
    return runners


def _to_half(path: Path) -> None:
    """Turns the file's weights and arithmetic into fp16, inputs and outputs staying float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(path))
    # Resize keeps float: ONNX Runtime's CPU provider has no fp16 kernel for it.
    onnx.save(convert_float_to_float16(model, keep_io_types=True, op_block_list=["Resize"]), str(path))
