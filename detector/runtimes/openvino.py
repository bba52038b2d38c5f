"""OpenVINO on the CPU, from its own file format in a cache folder, with few input shapes so that memory stays flat."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from detector.cache import cache_folder
from detector.errors import ModelError
from detector.models import TENSORS
from detector.runtimes.input_shape import check_free_sides
from detector.runtimes.memory_addresses import refuse_addresses
from detector.runtimes.onnx_alone import read_onnx, reason
from detector.runtimes.output import page_map

BUCKET = 128
"""Input sides are padded to multiples of this: every new shape costs OpenVINO 4 MB that it keeps."""

MOST_SHAPES = 8
"""After this many shapes the network is compiled again (0.5 s), which gives their memory back."""


class OpenVinoRuntime:
    """A network in OpenVINO; see `detector.runtimes.Runtime`.

    Args:
        model: .onnx file, input (N, 3, H, W) float32, output (N, 1, H, W) float32.
        precision: for the name; "fp32" is then really computed in, also by CPUs with bf16.
        sha256: of the model, names its file in the cache.
        threads: of one inference.
        tensors: names of the input and of the output.
        multiple: input sides are padded to multiples of it, pixels.

    Raises:
        ModelError: the file cannot be loaded, has other inputs and outputs, or takes one size alone.
    """

    def __init__(
        self,
        model: Path,
        precision: str,
        sha256: str,
        threads: int = 1,
        tensors: tuple[str, str] = TENSORS,
        multiple: int = BUCKET,
    ) -> None:
        self._multiple = multiple
        self.name = f"openvino-{precision}"
        refuse_addresses(model)
        folder = own_folder(cache_folder() / "openvino")
        if folder is not None:
            weakref.finalize(self, os.close, folder)
        self._model, self._kept = model, _cached(model, sha256, folder)
        self._options = _options(precision, threads)
        self._shapes: set[tuple[int, ...]] = set()
        self._core = openvino.Core()
        self._compile()
        inputs = [port.names for port in self._compiled.inputs]  # OpenVINO gives a tensor several names
        outputs = [port.names for port in self._compiled.outputs]
        given, found = tensors
        if len(inputs) != 1 or given not in inputs[0] or not any(found in names for names in outputs):
            raise ModelError(
                f"{model}: expected input {given!r} and output {found!r}, found {inputs} and {outputs}; "
                "ocr-detector import-weights takes over other projects' files"
            )
        sides = list(self._compiled.inputs[0].partial_shape)[2:]
        check_free_sides(model, [side.get_length() if side.is_static else None for side in sides])
        self._output = next(index for index, names in enumerate(outputs) if found in names)

    def probability(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(1, 3, H, W) float32 -> (H, W) float32 in [0, 1]; see `detector.runtimes.Runtime`."""
        height, width = batch.shape[2:]
        padded = batch
        full = (bucket(height, self._multiple), bucket(width, self._multiple))
        if (height, width) != full:
            padded = np.zeros((1, 3, *full), np.float32)
            padded[:, :, :height, :width] = batch
        if padded.shape not in self._shapes:
            if len(self._shapes) >= MOST_SHAPES:
                self.release()
            self._shapes.add(padded.shape)
        # share_outputs=False: the result must outlive the next inference.
        result = self._request.infer([padded], share_inputs=True, share_outputs=False)
        return page_map(result[self._compiled.outputs[self._output]], *full)[:height, :width]

    def release(self) -> None:
        """Compiles again: OpenVINO gives the buffers of past shapes back only with the compiled network."""
        del self._request, self._compiled
        self._shapes.clear()
        self._compile()

    def _compile(self) -> None:
        try:
            network = str(self._kept) if self._kept else read_onnx(self._model)
            self._compiled: Any = self._core.compile_model(network, "CPU", self._options)
        except RuntimeError as error:
            raise ModelError(f"{self._model}: OpenVINO cannot load it: {reason(error)}") from error
        self._request = self._compiled.create_infer_request()


def bucket(side: int, multiple: int = BUCKET) -> int:
    """The side as it is run, pixels: the next multiple."""
    return -(-side // multiple) * multiple


def _options(precision: str, threads: int) -> dict[str, Any]:
    options: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # two pinned workers would share one core and leave the other idle
        # Primitives of past shapes are not kept: making them again takes less than a millisecond each.
        "CPU_RUNTIME_CACHE_CAPACITY": 0,
    }
    if precision == "fp32":
        options["INFERENCE_PRECISION_HINT"] = "f32"
    return options


def _cached(model: Path, sha256: str, folder: int | None) -> Path | None:
    """The model in OpenVINO's format (20 MB less than reading ONNX); None where it cannot be kept.

    None is kept of a model whose weights lie in files beside it: its sha256 says nothing of them. OpenVINO reads such
    files where they lie in the model's folder, and refuses others.

    Args:
        model: the .onnx file.
        sha256: of it.
        folder: descriptor of the cache's folder (`own_folder`), by which all in it is reached, whatever takes its name.
    """
    if folder is None:
        return None
    target = Path(f"/proc/self/fd/{folder}", f"{sha256[:32]}-{openvino.__version__.split('-')[0]}.xml")
    if all(map(_is_kept, (target, target.with_suffix(".bin")))):
        return target
    # In a process of its own: its memory would stay with us for ever. -P: not a `detector` in the current folder.
    command = [sys.executable, "-P", "-m", "detector.runtimes.openvino", str(model), str(target)]
    done = subprocess.run(command, capture_output=True, check=False, pass_fds=(folder,))
    return target if done.returncode == 0 else None


def own_folder(named: Path) -> int | None:
    """A folder of the cache, made where it is not there, and held open; None where others could write into it.

    A model in it is taken for the one whose sha256 it is called by. In a cache that a group may write into one of it
    had made the folder: pages were "ok", with his boxes.

    Returns:
        A descriptor. None, too, where it is a link, or there is no /proc.
    """
    with suppress(OSError):  # read-only, or there already
        named.mkdir(0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(named, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    if _is_nobody_elses(os.fstat(descriptor)) and Path(f"/proc/self/fd/{descriptor}").exists():
        return descriptor
    os.close(descriptor)
    return None


def _is_kept(file: Path) -> bool:
    try:
        return _is_nobody_elses(file.lstat())
    except OSError:
        return False


def _is_nobody_elses(status: os.stat_result) -> bool:
    is_ours = status.st_uid in (os.geteuid(), 0)
    return is_ours and not stat.S_ISLNK(status.st_mode) and not status.st_mode & 0o022


def convert(model: Path, target: Path) -> None:
    """Writes an .onnx file as OpenVINO's .xml and .bin, for this user alone; several processes may do so at once.

    An .onnx file may say that its weights are in another file, by any name: given the model's bytes, OpenVINO 2026.4
    reads an absolute one, and a stranger's model had a user's private file copied into the cache. Given a path it
    takes files of that folder alone, and in this one there is nothing but the model.

    Raises:
        RuntimeError: OpenVINO cannot read it, or its weights are not in it.
        ModelError: its weights are said to lie in memory.
    """
    with tempfile.TemporaryDirectory(prefix=".", dir=target.parent) as folder:
        alone, unfinished = Path(folder, "model.onnx"), Path(folder, "model.xml")
        shutil.copyfile(model, alone)
        openvino.save_model(read_onnx(alone), str(unfinished), compress_to_fp16=False)
        for suffix in (".bin", ".xml"):  # the .xml last: it is what others look for
            written = unfinished.with_suffix(suffix)
            written.chmod(0o600)
            written.replace(target.with_suffix(suffix))


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
