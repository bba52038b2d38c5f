"""One image's way through a worker child: fetch, detect, record. Knows nothing of Celery."""

from __future__ import annotations

import os
import signal
import socket
import time
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from detector.errors import DetectorError
from worker import guard
from worker.messages import BoxRecord, ImageRecord, ImageTask, ModelRecord, Seconds, failed_record
from worker.settings import Settings
from worker.storage import Storage

if TYPE_CHECKING:
    from detector.predictor import Detection, TextDetector

# Chaos tests set this to a pattern of image names: the child kills itself over them, as a bad native library would.
POISON_VARIABLE = "OCRFLEET_CHAOS_POISON"


def worker_name() -> str:
    """``host:pid`` of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


class ImageRunner:
    """Turns tasks into records. One per worker child; the network is loaded at the first image and kept."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.storage = Storage(settings.roots, settings.spool_dir)
        self._detector: TextDetector | None = None

    def detector(self) -> TextDetector:
        """The loaded network.

        Lazily: a slow ``worker_process_init`` is killed by Celery after a few seconds, and the Celery main process
        must never hold a network.
        """
        if self._detector is None:
            from detector.predictor import TextDetector

            self._detector = TextDetector(
                runtime=self.settings.runtime,
                threads=self.settings.threads,
                limit_side=self.settings.limit_side,
                max_pixels=self.settings.max_pixels,
            )
        return self._detector

    def run(self, task: ImageTask, *, attempts: int, losses: int) -> ImageRecord:
        """One page, start to record. Whatever is wrong with the *image* becomes a failed record.

        Args:
            task: the page.
            attempts: which try this is, from 1.
            losses: earlier tries that took their process, memory or time with them: the page is run smaller.

        Raises:
            MemoryError: no memory; the caller may try smaller.
        """
        guard.reset_peak_rss()
        started = time.perf_counter()
        limit_side = guard.degraded_limit_side(task.limit_side or self.settings.limit_side, losses)
        try:
            with self.storage.open(task.uri) as path:
                fetched = time.perf_counter()
                _maybe_poison(task)
                detection = self.detector().detect(path, task.page, limit_side=limit_side)
        except DetectorError as error:
            return self._failed(task, error, attempts)
        except MemoryError:
            raise
        except Exception as error:
            if guard.is_out_of_memory(error):
                raise MemoryError(str(error)) from error
            raise
        flags = [*detection.flags, *(["degraded"] if losses else [])]
        return self._ok(task, detection, flags, attempts, fetched - started, time.perf_counter() - started)

    def _ok(
        self, task: ImageTask, detection: Detection, flags: list[str], attempts: int, fetch_s: float, total_s: float
    ) -> ImageRecord:
        info = self.detector().info
        spent = detection.seconds
        return ImageRecord(
            job=task.job,
            index=task.index,
            image=task.image,
            page=task.page,
            status="ok",
            width=detection.width,
            height=detection.height,
            boxes=[
                BoxRecord([(round(float(x), 1), round(float(y), 1)) for x, y in box.points], round(float(box.score), 4))
                for box in detection.boxes
            ],
            input_size=(int(detection.input_size[0]), int(detection.input_size[1])),
            flags=flags,
            seconds=Seconds(
                *(round(value, 4) for value in (fetch_s, spent["open"], spent["infer"], spent["post"], total_s))
            ),
            peak_rss_mb=round(guard.peak_rss_mb(), 1),
            attempts=attempts,
            worker=worker_name(),
            model=ModelRecord(info.name, info.sha256, info.runtime),
        )

    def _failed(self, task: ImageTask, error: DetectorError, attempts: int) -> ImageRecord:
        message = str(error) or type(error).__name__
        return failed_record(
            task,
            error.type,  # type: ignore[arg-type]
            message,
            attempts=attempts,
            worker=worker_name(),
            peak_rss_mb=round(guard.peak_rss_mb(), 1),
        )


def _maybe_poison(task: ImageTask) -> None:
    pattern = os.environ.get(POISON_VARIABLE)
    if pattern and fnmatch(task.image, pattern):
        os.kill(os.getpid(), signal.SIGKILL)
