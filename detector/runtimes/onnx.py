"""ONNX Runtime on the CPU, set for small and steady memory."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from detector.errors import ModelError, first_line, read_bounded
from detector.images.sizes import THIN_ASPECT
from detector.models import MOST_ONNX_BYTES, TENSORS
from detector.runtimes.input_shape import check_free_sides
from detector.runtimes.onnx_alone import onnx_options
from detector.runtimes.output import page_map

_SAME_AS_REQUESTED = 1  # arena_extend_strategy of OrtArenaCfg, onnxruntime_c_api.h


class OnnxRuntime:
    """A network in ONNX Runtime; see `detector.runtimes.Runtime`.

    Args:
        model: .onnx file, input (N, 3, H, W) float32, output (N, 1, H, W) float32.
        precision: for the name.
        threads: of one inference.
        tensors: names of the input and of the output.

    Raises:
        ModelError: the file cannot be loaded, has other inputs and outputs, or takes one size alone.
    """

    def __init__(self, model: Path, precision: str, threads: int = 1, tensors: tuple[str, str] = TENSORS) -> None:
        self.name = f"onnxruntime-{precision}"
        self._session = open_session(model, threads)
        self._largest = 0  # input area in pixels since the arena was last empty
        self._shrinking = ort.RunOptions()
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        inputs = [node.name for node in self._session.get_inputs()]
        outputs = [node.name for node in self._session.get_outputs()]
        self._given, self._found = tensors
        if inputs != [self._given] or self._found not in outputs:
            raise ModelError(
                f"{model}: expected input {self._given!r} and output {self._found!r}, found {inputs} and {outputs}; "
                "ocr-detector import-weights takes over other projects' files"
            )
        check_free_sides(model, self._session.get_inputs()[0].shape[2:])

    def probability(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(1, 3, H, W) float32 -> (H, W) float32 in [0, 1]; see `detector.runtimes.Runtime`."""
        area = batch.shape[2] * batch.shape[3]
        if area > self._largest:
            if self._largest:
                self.release()  # blocks of a smaller page are no use to a larger one, and would be kept beside its own
            self._largest = area
        # Blocks of a thin page fit nothing else. Other pages' are used again: 4,000 pages of random sizes leave the
        # arena as the first hundred made it, so it is not emptied from time to time, and the process stays flat.
        shrink = max(batch.shape[2:]) > THIN_ASPECT * min(batch.shape[2:])
        (output,) = self._session.run([self._found], {self._given: batch}, self._shrinking if shrink else None)
        if shrink:
            self._largest = 0
        return page_map(output, *batch.shape[2:])

    def release(self) -> None:
        """Gives the arena's memory back (55 MB at 640x640); the next run takes it again, in some 30 ms more."""
        self._largest = 0
        self._session.run([self._found], {self._given: np.zeros((1, 3, 32, 32), np.float32)}, self._shrinking)


def open_session(model: Path, threads: int) -> ort.InferenceSession:
    """A session for any .onnx file, set for small and steady memory.

    Args:
        model: the file.
        threads: of one inference.

    Raises:
        ModelError: it cannot be read or loaded.
    """
    _register_arena()
    try:
        return ort.InferenceSession(_source(model), _options(threads), ["CPUExecutionProvider"])
    except OSError as error:
        raise ModelError(f"{model}: cannot be read: {error.strerror}") from error
    except Exception as error:
        # onnxruntime's own exceptions have no public base class; a time limit of the worker's is not one of them.
        if not (type(error).__module__.startswith("onnxruntime") or isinstance(error, (RuntimeError, ValueError))):
            raise
        raise ModelError(f"{model}: ONNX Runtime cannot load it: {first_line(error)}") from error


def _source(model: Path) -> str | bytes:
    """The model by its name: given its bytes, ONNX Runtime holds them for ever (12 MB of dbnet-resnet18).

    Raises:
        OSError: the file cannot be read.
    """
    with model.open("rb") as file:
        try:
            str(model).encode()
        except UnicodeEncodeError:  # a name that is not UTF-8 cannot be handed over
            return read_bounded(file, MOST_ONNX_BYTES)
    return str(model)


@functools.cache
def _register_arena() -> None:
    # Blocks of the size asked for: the default rounds up to the next power of two, +13 MB at 640x640, +31 at 960x960.
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(0, _SAME_AS_REQUESTED, -1, -1))


def _options(threads: int) -> ort.SessionOptions:
    options = onnx_options()
    # Always set: the default starts a thread per core of the machine, whatever the process may use.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Memory patterns plan one block per input shape and keep them all; every page has another shape.
    options.enable_mem_pattern = False
    # The arena stays on: without it the peak is higher, because freed blocks go back in pieces.
    options.enable_cpu_mem_arena = True
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.log_severity_level = 3
    # Spinning threads burn the core that the next worker needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options
