"""What runs the network. Every runtime is one small file that keeps the `Runtime` protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from detector.choice import RUNTIMES
from detector.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from detector.weights import ModelCard


class Runtime(Protocol):
    """A loaded network.

    Attributes:
        name: library and precision, such as "onnxruntime-int8".
    """

    name: str

    def probability(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(1, 3, H, W) float32, normalised RGB, sides multiples of 32 -> (H, W) float32 in [0, 1]."""
        ...

    def release(self) -> None:
        """Gives memory of past runs back to the system, where the library keeps any."""
        ...


def file_kind(runtime: str) -> str:
    """Which of a model's files the runtime reads, for `detector.weights`: "int8_onnx" or "fp16_safetensors".

    Raises:
        ModelError: unknown runtime.
    """
    if runtime not in ("auto", *RUNTIMES):
        raise ModelError(f"unknown runtime {runtime!r}; choose auto, {', '.join(RUNTIMES)}")
    return "fp16_safetensors" if runtime == "torch" else "int8_onnx"


def load_runtime(runtime: str, card: ModelCard, threads: int) -> Runtime:
    """Loads a model's file.

    Args:
        runtime: "auto" or one of `RUNTIMES`.
        card: of the model, for the kind of file that this runtime reads (`file_kind`).
        threads: threads of one inference.

    Raises:
        ModelError: unknown runtime, or the file cannot be loaded.
    """
    wanted = ".onnx" if file_kind(runtime) == "int8_onnx" else ""
    if wanted and card.path.suffix != wanted:
        raise ModelError(f"{card.path}: {runtime} reads .onnx files; export it, or use --runtime torch")
    if not wanted and card.path.suffix == ".onnx":
        raise ModelError(f"{card.path}: torch reads .safetensors files and checkpoints, not .onnx")
    if runtime == "openvino":
        from detector.runtimes.openvino import OpenVinoRuntime

        return OpenVinoRuntime(card.path, card.precision, card.sha256, threads)
    if runtime == "torch":
        from detector.runtimes.torch import TorchRuntime

        return TorchRuntime(card.path, threads)
    from detector.runtimes.onnx import OnnxRuntime

    return OnnxRuntime(card.path, card.precision, threads)
