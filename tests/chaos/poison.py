"""A page that kills the process that looks at it, as a fault in a native library would.

A worker of a test loads this module: ``celery -A worker.app worker -I tests.chaos.poison``. No test may import it: it
changes the process that does.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, BinaryIO

from detector.predictor import Detection, TextDetector

_detect = TextDetector.detect


def _detect_or_die(self: TextDetector, image: BinaryIO, *arguments: Any, **options: Any) -> Detection:
    if Path(image.name).name == "image-0003.jpg":
        os.kill(os.getpid(), signal.SIGKILL)
    return _detect(self, image, *arguments, **options)


TextDetector.detect = _detect_or_die  # type: ignore[method-assign]
