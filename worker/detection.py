"""One image's way through a worker child: fetch, detect, record. Knows nothing of Celery."""

from __future__ import annotations

import errno
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import redis
from msgspec import UNSET, UnsetType
from msgspec.structs import replace as replace_fields

from detector.errors import ImageError, ModelError, ReadFailed, is_out_of_memory
from detector.images.budget import SMALLEST_LIMIT_SIDE
from detector.memory import limit_memory, peak_rss_mb
from detector.record import box_records, seconds_record, worker_name
from worker.broker import blobs, connect
from worker.messages import ImageRecord, ImageTask, ModelRecord, Original, failed_record
from worker.page_options import adjusted
from worker.process import reset_peak_rss
from worker.settings import Settings
from worker.storage import Fetch, Storage, way
from worker.storage.remote import SCHEMES, Remote
from worker.storage.spool import MachineFault, open_spool

if TYPE_CHECKING:
    from detector.predictor import Detection, TextDetector


class ImageRunner:
    """Turns tasks into records. One per worker child; the network is loaded at the first image and kept."""

    def __init__(self, settings: Settings) -> None:
        """Loads and connects nothing yet."""
        self.settings = settings
        self.storage = Storage(
            settings.roots,
            settings.spool,
            self._fetchers(),
            any_path=settings.opens_anything,
            make_spool=open_spool,
            way=way.HERE,
        )
        self._detector: TextDetector | None = None
        self._client: redis.Redis | None = None

    def _fetchers(self) -> dict[str, Fetch]:
        remote = Remote(self.settings.url_roots, s3_open=self.settings.opens_anything)
        return {blobs.SCHEME: self._fetch_blob, **dict.fromkeys(SCHEMES, remote.fetch)}

    def _fetch_blob(self, uri: str, target: Path) -> None:
        if self._client is None:
            self._client = connect(self.settings, patient=True)
        blobs.fetch(self._client, uri, target)

    def detector(self) -> TextDetector:
        """The loaded network: inherited through the fork where that is safe (tasks.py), else loaded now.

        Never in ``worker_process_init``: Celery kills a child that takes more than a few seconds there.
        """
        if self._detector is None:
            from detector.memory import configure_process
            from detector.predictor import TextDetector

            limit_mb = self.settings.memory_limit_mb
            self._detector = TextDetector(
                self.settings.model,
                runtime=self.settings.runtime,
                threads=self.settings.threads,
                limit_side=self.settings.limit_side,
                max_pixels=self.settings.max_pixels,
                memory_limit=limit_mb << 20 if limit_mb else None,
                tiled=self.settings.profile.tiled,
            )
            configure_process(threads=self._detector.threads, arenas=2)
        return self._detector

    def loads_before_fork(self) -> bool:
        """Whether the network may be loaded before the fork: only ONNX Runtime with one thread survives it."""
        settings = self.settings
        if settings.threads != 1 or settings.runtime not in ("auto", "onnxruntime"):
            return False
        from detector.runtimes.choice import auto_runtime

        limit_mb = settings.memory_limit_mb
        auto = auto_runtime(
            settings.model,
            threads=settings.threads,
            limit_side=settings.limit_side,
            tiled=settings.profile.tiled,
            memory_limit=limit_mb << 20 if limit_mb else None,
        )
        return "onnxruntime" in (settings.runtime, auto)

    def run(self, task: ImageTask, *, attempts: int, losses: int) -> ImageRecord:
        """One page, start to record. Whatever is wrong with the *image* becomes a failed record.

        Args:
            task: the page.
            attempts: which try this is, from 1.
            losses: earlier tries that took their process, memory or time with them: the page is run smaller.

        Raises:
            MachineFault: its file met an error of the disk or the network, or the spool has no room.
            MemoryError: no memory; the caller may try smaller.
        """
        reset_peak_rss()
        started = time.perf_counter()
        if self.settings.memory_limit_mb:
            limit_memory(self.settings.memory_limit_mb << 20)
        limit_side = degraded_limit_side(task.limit_side or self.settings.limit_side, losses)
        pages: int | UnsetType = UNSET
        opened = ""
        try:
            with self.storage.open_file(task.uri, task.image) as file:
                opened = file.name
                fetched = time.perf_counter()
                pages = _true_pages(task, file)
                with adjusted(self.detector(), task.options, self.settings.memory_limit_mb):
                    detection = self.detector().detect(
                        file, task.page_in_bytes, limit_side=limit_side, read=task.options.read or None
                    )
        except ReadFailed as error:  # of the disk or the network: another machine, or this one later, may read it
            raise MachineFault(error.errno, error.strerror, opened or task.image) from error
        except ImageError as error:
            return replace_fields(self._failed(task, error, attempts, opened), pages=pages)
        except ModelError as error:
            if not task.options.read:
                raise
            raise MachineFault(errno.ENOENT, str(error), f"recogniser {task.options.read}") from error
        except MemoryError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError(str(error)) from error
            raise
        if task.original is not None:
            detection = at_original_size(detection, task.original)
        # Once, though the page may also have been opened smaller for want of memory.
        flags = list(dict.fromkeys([*detection.flags, *(["degraded"] if losses else [])]))
        record = self._ok(task, detection, flags, attempts, fetched - started, time.perf_counter() - started)
        share = UNSET if detection.share is None else round(detection.share, 4)
        return replace_fields(record, pages=pages, share=share)

    def _ok(
        self, task: ImageTask, detection: Detection, flags: list[str], attempts: int, fetch_s: float, total_s: float
    ) -> ImageRecord:
        info = self.detector().info
        return ImageRecord(
            job=task.job,
            index=task.index,
            image=task.image,
            page=task.page,
            status="ok",
            width=detection.width,
            height=detection.height,
            boxes=box_records(detection.boxes, detection.lines, digits=1),
            input_size=(int(detection.input_size[0]), int(detection.input_size[1])),
            flags=flags,
            seconds=seconds_record(detection.seconds, fetch_s, total_s),
            peak_rss_mb=round(peak_rss_mb(), 1),
            attempts=attempts,
            worker=worker_name(),
            model=ModelRecord(info.name, info.sha256, info.runtime),
        )

    def _failed(self, task: ImageTask, error: ImageError, attempts: int, opened: str) -> ImageRecord:
        message = str(error) or type(error).__name__
        if opened and not task.uri.startswith("file:"):  # a copy in our spool, whose name tells nobody anything
            message = message.replace(opened, task.image)
        return failed_record(
            task,
            error.type,
            message,
            attempts=attempts,
            worker=worker_name(),
            peak_rss_mb=round(peak_rss_mb(), 1),
        )


def _true_pages(task: ImageTask, file: BinaryIO) -> int | UnsetType:
    """How many pages a PDF or TIFF has: who sent a part of it says so; of the whole file's first page it is counted."""
    if task.pages:
        return task.pages
    if task.page or task.blob_page >= 0 or task.original is not None:
        return UNSET
    from detector.images.page import count_paged

    try:
        return count_paged(file) or UNSET
    except ReadFailed:
        raise
    except ImageError:  # what is wrong with it is said when it is opened
        return UNSET


def at_original_size(detection: Detection, original: Original) -> Detection:
    """The detection on a page that the producer had shrunk for sending, in pixels of the original page."""
    x_scale, y_scale = original.width / detection.width, original.height / detection.height

    def enlarged(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        return tuple(
            (min(float(x) * x_scale, original.width), min(float(y) * y_scale, original.height)) for x, y in points
        )

    boxes = [
        replace(box, points=enlarged(box.points), polygon=box.polygon and enlarged(box.polygon))
        for box in detection.boxes
    ]
    lines = detection.lines and [
        replace(line, words=tuple(replace(word, points=enlarged(word.points)) for word in line.words))
        for line in detection.lines
    ]
    from detector.images.remarks import remarks

    lost = remarks(detection.input_size, (original.width, original.height), blank=False)
    flags = tuple(dict.fromkeys((*original.flags, *detection.flags, *lost)))
    detection = replace(detection, width=original.width, height=original.height, boxes=boxes, flags=flags, lines=lines)
    return detection if original.share is None else replace(detection, share=original.share)


# Of the page's own limit, after 0, 1, 2 and more tries that ended in a lost process, no memory or no time: a smaller
# input needs less of both (docs/architecture.md).
LADDER = (1.0, 0.7, 0.5)


def degraded_limit_side(limit_side: int, losses: int) -> int:
    """The limit for the next try after ``losses`` lost ones, pixels, a multiple of 32.

    Args:
        limit_side: limit of an undisturbed run, pixels.
        losses: tries that ended in a lost process, no memory or no time.
    """
    if losses == 0:
        return limit_side
    factor = LADDER[min(losses, len(LADDER) - 1)]
    return min(limit_side, max(SMALLEST_LIMIT_SIDE, int(limit_side * factor) // 32 * 32))
