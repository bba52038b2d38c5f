"""One page's outcome as a JSON object of schema 1, the same that a job of many workers writes to results.jsonl."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from detector.errors import DetectorError, show
from detector.memory import peak_rss_mb
from detector.predictor import Detection, ModelInfo

SCHEMA = 1
JOB = "detect"


def ok_record(
    index: int, path: Path, page: int, detection: Detection, model: ModelInfo, total_s: float
) -> dict[str, Any]:
    """The record of a page that was run.

    Args:
        index: number of the page in this call, from 0.
        path: the file.
        page: page of the file, from 0.
        detection: what was found.
        model: what found it.
        total_s: wall time of the page, seconds.
    """
    seconds = {"fetch": 0.0, **detection.seconds, "total": total_s}
    return {
        **_common(index, path, page, "ok"),
        "width": detection.width,
        "height": detection.height,
        "boxes": [{"points": [list(point) for point in box.points], "score": box.score} for box in detection.boxes],
        "input_size": list(detection.input_size),
        "flags": list(detection.flags),
        "seconds": {stage: round(value, 4) for stage, value in seconds.items()},
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "attempts": 1,
        "worker": f"{socket.gethostname()}:{os.getpid()}",
        "model": {"name": model.name, "sha256": model.sha256, "runtime": model.runtime},
        "error": None,
    }


def failed_record(
    index: int, path: Path, page: int, error: DetectorError | MemoryError, model: ModelInfo
) -> dict[str, Any]:
    """The record of a page that could not be run."""
    kind = error.type if isinstance(error, DetectorError) else "OutOfMemory"
    message = str(error) if isinstance(error, DetectorError) else f"{show(path)}: not enough memory; lower --limit-side"
    return {
        **_common(index, path, page, "failed"),
        "width": 0,
        "height": 0,
        "boxes": [],
        "input_size": None,
        "flags": [],
        "seconds": {"fetch": 0.0, "open": 0.0, "infer": 0.0, "post": 0.0, "total": 0.0},
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "attempts": 1,
        "worker": f"{socket.gethostname()}:{os.getpid()}",
        "model": {"name": model.name, "sha256": model.sha256, "runtime": model.runtime},
        "error": {"type": kind, "message": message},
    }


def _common(index: int, path: Path, page: int, status: str) -> dict[str, Any]:
    return {"schema": SCHEMA, "job": JOB, "index": index, "image": show(path), "page": page, "status": status}
