"""A worker that takes its time over every image, so that faults meet a job at work on any machine.

A worker of a test loads this module: ``celery -A worker.app worker -I tests.faults.slow``.
"""

from __future__ import annotations

import time

from worker.detection import ImageRunner
from worker.messages import ImageRecord, ImageTask

SECONDS = 0.5
_run = ImageRunner.run


def run(self: ImageRunner, task: ImageTask, *, attempts: int, losses: int) -> ImageRecord:
    time.sleep(SECONDS)
    return _run(self, task, attempts=attempts, losses=losses)


ImageRunner.run = run  # type: ignore[method-assign]
