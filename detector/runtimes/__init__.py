"""What runs the network. Every runtime is one small file that keeps the `Runtime` protocol."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from detector.errors import ModelError
from detector.images.sizes import STRIDE
from detector.models import ModelCard, load_card
from detector.runtimes.tuned import RUNTIMES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Runtime(Protocol):
    """A loaded network.

    Attributes:
        name: library and precision, such as "onnxruntime-int8".
    """

    name: str

    def probability(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(1, 3, H, W) float32, normalised RGB, sides multiples of 32 -> (H, W) float32 in [0, 1].

        Raises:
            NetworkFailed: the network's output is no such map, or not finite.
        """
        ...

    def release(self) -> None:
        """Gives memory of past runs back to the system, where the library keeps any."""
        ...


def file_kind(runtime: str) -> str:
    """Which of a model's files the runtime reads, for `detector.models`: "int8_onnx" or "fp16_safetensors".

    Raises:
        ModelError: unknown runtime.
    """
    if runtime not in ("auto", *RUNTIMES):
        raise ModelError(f"unknown runtime {runtime!r}; choose auto, {', '.join(RUNTIMES)}")
    return "fp16_safetensors" if runtime == "torch" else "int8_onnx"


def check_suffix(card: ModelCard, runtime: str) -> None:
    """Raises ModelError if the model's file is of the kind that the runtime does not read."""
    if (card.path.suffix == ".onnx") == (file_kind(runtime) == "int8_onnx"):
        return
    if runtime == "torch":
        raise ModelError(f"{card.path}: torch reads .safetensors files and checkpoints, not .onnx")
    raise ModelError(f"{card.path}: {runtime} reads .onnx files; export it, or use --runtime torch")


def usable_card(model: str | Path, runtime: str) -> ModelCard:
    """The card of a model that this machine can run, as far as that is known without loading it.

    Raises:
        ModelError: no such model, or the runtime does not read it, or is not installed.
    """
    card = load_card(model, file_kind(runtime))
    check_suffix(card, runtime)
    library = "onnxruntime" if runtime == "auto" else runtime
    if find_spec(library) is None:
        raise ModelError(f"the runtime {library} is not installed here: pip install {library}")
    return card


def load_runtime(runtime: str, card: ModelCard, threads: int) -> Runtime:
    """Loads a model's file.

    Args:
        runtime: "auto" or one of `RUNTIMES`.
        card: of the model, for the kind of file that this runtime reads (`file_kind`).
        threads: threads of one inference.

    Raises:
        ModelError: unknown runtime, or the file cannot be loaded.
    """
    check_suffix(card, runtime)
    if runtime == "openvino":
        from detector.runtimes.openvino import BUCKET, OpenVinoRuntime

        # A network that wants no padding gets none here either: more shapes, and 0.5 s after every eighth.
        multiple = STRIDE if card.stretch else BUCKET
        return OpenVinoRuntime(card.path, card.precision, card.sha256, threads, card.tensors, multiple)
    if runtime == "torch":
        from detector.runtimes.torch import TorchRuntime

        return TorchRuntime(card.path, threads)
    from detector.runtimes.onnx import OnnxRuntime

    return OnnxRuntime(card.path, card.precision, threads, card.tensors)
