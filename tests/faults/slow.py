"""A worker that takes its time over every image, so that faults meet a job at work on any machine.

A worker of a test loads this module: ``celery -A worker.app worker -I tests.faults.slow``. Once there is the file that
``OCRFLEET_FAULTS_HURRY`` names, it does not: when all faults are over, the rest of the job proves nothing.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from worker.detection import ImageRunner
from worker.messages import ImageRecord, ImageTask

SECONDS = 1.0
HURRY = Path(os.environ.get("OCRFLEET_FAULTS_HURRY", "/nonexistent"))
_run = ImageRunner.run


def run(self: ImageRunner, task: ImageTask, *, attempts: int, losses: int) -> ImageRecord:
    if not HURRY.exists():
        time.sleep(SECONDS)
    return _run(self, task, attempts=attempts, losses=losses)


ImageRunner.run = run  # type: ignore[method-assign]
