"""What runs the network. Every runtime is one small file that keeps the `Runtime` protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from detector.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RUNTIMES = ("onnxruntime",)


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


def load_runtime(name: str, model: Path, precision: str, threads: int) -> Runtime:
    """Loads an ONNX file.

    Args:
        name: "auto" or one of `RUNTIMES`.
        model: the .onnx file.
        precision: what the file computes in, for the runtime's name ("int8", "fp32").
        threads: threads of one inference.

    Raises:
        ModelError: unknown runtime, or the file cannot be loaded.
    """
    if name in ("auto", "onnxruntime"):
        from detector.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(model, precision, threads)
    raise ModelError(f"unknown runtime {name!r}; choose auto or {', '.join(RUNTIMES)}")
