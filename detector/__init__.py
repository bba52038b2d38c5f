"""Text detection: pixels in, boxes out. Knows nothing of queues.

Importing the package loads nothing; a name is looked up when it is used::

    from detector import TextDetector

    detector = TextDetector()
    for box in detector.detect("photo.jpg").boxes:
        print(box.points, box.score)

docs/python.md is the reference.
"""

import os
import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING

# Before anything imports ONNX Runtime: 1.31 collects telemetry, for which it opens $TMPDIR/.ses by name, through links,
# and waits for ever where that is a pipe; and keeps an id of the machine under ~/.cache/Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Before anything imports OpenVINO, which tells Google Analytics of each import, and keeps an id of the user in ~/intel:
# where this package cannot be imported, it takes a stub that does nothing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
# Before (or behind) `import cv2`: opencv-python 5.0 puts its folder before what is there, with a colon. Where there was
# nothing, an empty entry follows, for which the system's loader takes the current folder: `libc.so.6` in a folder of
# pictures was loaded by each program that Celery or we started.
_libraries = [folder for folder in re.split("[:;]", os.environ.get("LD_LIBRARY_PATH", "")) if folder]
os.environ["LD_LIBRARY_PATH"] = ":".join(_libraries) or "/nonexistent"

if TYPE_CHECKING:
    from detector.errors import (
        CorruptImage,
        DetectorError,
        ImageError,
        ModelError,
        NetworkFailed,
        NotFound,
        TooLarge,
        UnsupportedFormat,
    )
    from detector.memory import configure_process
    from detector.postprocess import Box
    from detector.predictor import Detection, ModelInfo, TextDetector
    from detector.thresholds import Thresholds

_HOMES = {
    "Box": "detector.postprocess",
    "CorruptImage": "detector.errors",
    "Detection": "detector.predictor",
    "DetectorError": "detector.errors",
    "ImageError": "detector.errors",
    "ModelError": "detector.errors",
    "ModelInfo": "detector.predictor",
    "NetworkFailed": "detector.errors",
    "NotFound": "detector.errors",
    "TextDetector": "detector.predictor",
    "Thresholds": "detector.thresholds",
    "TooLarge": "detector.errors",
    "UnsupportedFormat": "detector.errors",
    "configure_process": "detector.memory",
}

__all__ = [
    "Box",
    "CorruptImage",
    "Detection",
    "DetectorError",
    "ImageError",
    "ModelError",
    "ModelInfo",
    "NetworkFailed",
    "NotFound",
    "TextDetector",
    "Thresholds",
    "TooLarge",
    "UnsupportedFormat",
    "configure_process",
]


def __getattr__(name: str) -> object:
    """A public name, from the module that has it, imported now (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
