"""One page's outcome, schema 1: what `ocr-detector detect` prints and a job writes to results.jsonl."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from detector.errors import ImageError, show
from detector.memory import peak_rss_mb

if TYPE_CHECKING:
    from detector.predictor import Detection, ModelInfo

SCHEMA = 1
JOB = "detect"
"""The job's name in records of `ocr-detector detect`, which knows no jobs."""

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises for what is no JSON of ours; the last one for a thousand nested brackets."""

ErrorType = Literal[
    "CorruptImage",
    "UnsupportedFormat",
    "TooLarge",
    "NotFound",
    "OutOfMemory",
    "TimedOut",
    "WorkerLost",
    "Internal",
]


class BoxRecord(msgspec.Struct, frozen=True):
    """One text box: four corners clockwise from top-left in original upright pixels, and its score in [0, 1]."""

    points: list[tuple[float, float]]
    score: float


class ErrorRecord(msgspec.Struct, frozen=True):
    """Why an image failed, in one line for a person and one word for a program."""

    type: ErrorType
    message: str


class Seconds(msgspec.Struct, frozen=True):
    """Where the time of one image went, seconds."""

    fetch: float = 0.0
    open: float = 0.0
    infer: float = 0.0
    post: float = 0.0
    total: float = 0.0


class ModelRecord(msgspec.Struct, frozen=True):
    """Which network made the boxes."""

    name: str
    sha256: str
    runtime: str


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one page. Exactly one of these is kept per page of a job.

    Attributes:
        schema: version of this format.
        job: the job's name.
        index: the page's line number in the job's manifest, from 0; with ``job`` the page's identity.
        image: the name a person reads.
        page: page inside the file, from 0.
        status: "ok", or "failed" with an ``error`` and without boxes.
        width, height: the original upright page, pixels.
        boxes: in those pixels, inside the page.
        input_size: (height, width) at which the network saw the page.
        flags: of "downscaled", "exif_rotated", "page_rendered", "degraded", "tiled".
        seconds: where the time went.
        peak_rss_mb: largest resident memory of the process on this page, MiB.
        attempts: tries that this page took.
        worker: ``host:pid`` of the process.
        model: which network made the boxes; None if none was loaded.
        error: why it failed.
        pages: how many its file has; only in the record of page 0 of a PDF or TIFF.
        share: of its rows that could be read, where ``flags`` has "damaged".
    """

    schema: int = SCHEMA
    job: str
    index: int
    image: str
    page: int
    status: Literal["ok", "failed"]
    width: int = 0
    height: int = 0
    boxes: list[BoxRecord] = []
    input_size: tuple[int, int] | None = None
    flags: list[str] = []
    seconds: Seconds = Seconds()
    peak_rss_mb: float = 0.0
    attempts: int = 1
    worker: str = ""
    model: ModelRecord | None = None
    error: ErrorRecord | None = None
    pages: int | msgspec.UnsetType = msgspec.UNSET
    share: float | msgspec.UnsetType = msgspec.UNSET


def worker_name(pid: int | None = None) -> str:
    """``host:pid`` of a process of this machine, of this one if no ``pid`` is given."""
    return f"{socket.gethostname()}:{os.getpid() if pid is None else pid}"


def ok_record(index: int, path: Path, page: int, detection: Detection, model: ModelInfo, total_s: float) -> ImageRecord:
    """The record of a page that was run here, without a queue.

    Args:
        index: number of the page in this call, from 0.
        path: the file.
        page: page of the file, from 0.
        detection: what was found.
        model: what found it.
        total_s: wall time of the page, seconds.
    """
    spent = detection.seconds
    return ImageRecord(
        job=JOB,
        index=index,
        image=show(path),
        page=page,
        status="ok",
        width=detection.width,
        height=detection.height,
        boxes=[BoxRecord(list(box.points), box.score) for box in detection.boxes],
        input_size=detection.input_size,
        flags=list(detection.flags),
        seconds=Seconds(0.0, *(round(value, 4) for value in (spent["open"], spent["infer"], spent["post"], total_s))),
        peak_rss_mb=round(peak_rss_mb(), 1),
        worker=worker_name(),
        model=ModelRecord(model.name, model.sha256, model.runtime),
        share=msgspec.UNSET if detection.share is None else round(detection.share, 4),
    )


def failed_record(index: int, path: Path, page: int, error: ImageError | MemoryError, model: ModelInfo) -> ImageRecord:
    """The record of a page that could not be run here."""
    if isinstance(error, ImageError):
        reason = ErrorRecord(error.type, str(error))
    else:
        reason = ErrorRecord("OutOfMemory", f"{show(path)}: not enough memory; lower --limit-side")
    return ImageRecord(
        job=JOB,
        index=index,
        image=show(path),
        page=page,
        status="failed",
        peak_rss_mb=round(peak_rss_mb(), 1),
        worker=worker_name(),
        model=ModelRecord(model.name, model.sha256, model.runtime),
        error=reason,
    )
