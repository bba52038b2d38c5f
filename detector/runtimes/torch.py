"""PyTorch: channels last; bf16 on CPUs that have it, fp16 on CUDA. Importing torch alone costs 220 MB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from detector.errors import ModelError
from detector.network.build import load_network
from detector.runtimes.output import page_map


class TorchRuntime:
    """A network in PyTorch; see `detector.runtimes.Runtime`.

    Args:
        model: .safetensors file (or a checkpoint of the trainer).
        threads: of one inference.
        device: "auto" (CUDA if there), "cpu" or "cuda".
        precision: of the arithmetic: "fp32", "bf16", "fp16", or "auto": fp16 on CUDA, bf16 on CPUs that compute in
            it. CPUs without it emulate bf16 several times slower than fp32, so they stay at fp32.

    Raises:
        ModelError: the file cannot be loaded.
    """

    def __init__(self, model: Path, threads: int = 1, *, device: str = "auto", precision: str = "auto") -> None:
        torch.set_num_threads(threads)
        self._device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        precision = _precision(self._device) if precision == "auto" else precision
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self.name = f"torch-{precision}" + ("-cuda" if self._device.type == "cuda" else "")
        try:
            network = load_network(model)
        except OSError as error:
            raise ModelError(f"{model}: cannot be read: {error.strerror or error}") from error
        self._network = network.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def probability(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(1, 3, H, W) float32 -> (H, W) float32 in [0, 1]; see `detector.runtimes.Runtime`."""
        half = self._dtype != torch.float32
        image = torch.from_numpy(batch).to(self._device, memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=half):
            output = self._network(image).float().cpu().numpy()
        return page_map(output, *batch.shape[2:])

    def release(self) -> None:
        """On CUDA, gives cached blocks back; on the CPU torch keeps none."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _precision(device: torch.device) -> str:
    if device.type == "cuda":
        return "fp16"
    return "bf16" if has_bf16_instructions() else "fp32"


def has_bf16_instructions() -> bool:
    """Whether the CPU multiplies bf16 by itself (AVX512_BF16, AMX, or Arm's BF16); oneDNN would emulate it."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
