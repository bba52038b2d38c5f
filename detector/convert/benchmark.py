"""What an ONNX file costs and finds: time and memory in a process of its own, hmean."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.convert.quantize import QuantizeError, fixed_size
from detector.errors import read_json

if TYPE_CHECKING:
    from detector.evaluation.evaluate import Summary

SIDE = 640
"""Of the input that a model is timed on, pixels."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model costs on this machine.

    Attributes:
        megabytes: of the file.
        milliseconds: median of one inference, one thread.
        peak_mb: peak resident memory of a process that only runs it.
    """

    megabytes: float
    milliseconds: float
    peak_mb: float


_PROBE = """
import json, pathlib, sys, time
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.enable_mem_pattern = False
options.add_session_config_entry("session.load_model_format", "ONNX")
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
batch = numpy.zeros((1, 3, int(sys.argv[2]), int(sys.argv[3])), numpy.float32)
times = []
for _ in range(8):
    started = time.perf_counter()
    session.run(None, {session.get_inputs()[0].name: batch})
    times.append(time.perf_counter() - started)
# VmHWM, not ru_maxrss: the latter starts at the size of the process that forked this one.
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) / 1024
print(json.dumps([sorted(times[2:])[3] * 1000, peak]))
"""


def measure(path: Path, side: int | None = None) -> Cost:
    """Time and memory of a model on a square input (or the only one it takes), in a process of its own.

    Args:
        path: the model.
        side: of the input, pixels; None for SIDE.

    Raises:
        QuantizeError: the model does not run.
    """
    height, width = fixed_size(path) or (side or SIDE, side or SIDE)
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROBE, str(path), str(height), str(width)],
        capture_output=True,
        text=True,
        env=os.environ | {"MALLOC_ARENA_MAX": "2"},
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [
            f"it ended with code {done.returncode} (-9: no memory was left)"
        ]
        raise QuantizeError(f"{path}: does not run: {said[0]}")
    milliseconds, peak = read_json(done.stdout)
    return Cost(path.stat().st_size / 1e6, milliseconds, peak)


def score(path: Path, data: Path, split: str, limit_side: int) -> Summary:
    """How a model does on a split of a data folder."""
    from detector.evaluation.annotations import read_split
    from detector.evaluation.evaluate import score_detector, summarise
    from detector.predictor import TextDetector

    scores: list[Any] = list(score_detector(TextDetector(path), read_split(data, split), limit_side))
    return summarise(path.name, scores)


def hmean(path: Path, data: Path, split: str, limit_side: int) -> float:
    """hmean of a model on a split of a data folder."""
    return score(path, data, split, limit_side).counts.hmean
