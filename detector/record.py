"""One page's outcome, schema 1: what `ocr-detector detect` prints and a job writes to results.jsonl."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from detector.errors import ImageError, as_utf8, show
from detector.memory import peak_rss_mb

if TYPE_CHECKING:
    from detector.postprocess import Box
    from detector.predictor import Detection, ModelInfo
    from detector.reading.line import Line

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


FARTHEST = 1e10
"""No page is as large: headers of pictures have 32 bits for a side. Numbers beyond these bounds, which decoding checks,
become Infinity where areas and sums are made of them, and that is no JSON."""

Coordinate = Annotated[float, msgspec.Meta(ge=-FARTHEST, le=FARTHEST)]
Score = Annotated[float, msgspec.Meta(ge=-1, le=2)]
Degrees = Annotated[float, msgspec.Meta(ge=-1000, le=1000)]
Amount = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
Corners = Annotated[list[tuple[Coordinate, Coordinate]], msgspec.Meta(min_length=4, max_length=4)]
Outline = Annotated[list[tuple[Coordinate, Coordinate]], msgspec.Meta(min_length=3)]


class WordRecord(msgspec.Struct, frozen=True):
    """A word of a read box: four corners from where it begins, in the direction of reading, and its score in [0, 1]."""

    text: str
    points: Corners
    score: Score


class BoxRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One text box: four corners clockwise from top-left in original upright pixels, and its score in [0, 1].

    Text, words, angle and order are there only if the page was read, a polygon only if one was asked for.

    Attributes:
        text: "" if nothing could be read.
        text_score: mean probability of its characters.
        words: of the text.
        angle: of the reading direction, degrees clockwise from left-to-right.
        order: its place on the page as a person would read it, from 0.
        polygon: its outline, clockwise, 3 points or more.
    """

    points: Corners
    score: Score
    text: str | None = None
    text_score: Score | None = None
    words: list[WordRecord] | None = None
    angle: Degrees | None = None
    order: Count | None = None
    polygon: Outline | None = None

    @property
    def outline(self) -> list[tuple[float, float]]:
        """The polygon, or the corners if there is none."""
        return self.polygon or self.points


class ErrorRecord(msgspec.Struct, frozen=True):
    """Why an image failed, in one line for a person and one word for a program.

    The message is UTF-8 whatever file it names: of one that is not, no record could be written, and the page was tried
    again until its tries were used up.
    """

    type: ErrorType
    message: str

    def __post_init__(self) -> None:
        """Here, since whoever makes an error may name a file."""
        msgspec.structs.force_setattr(self, "message", as_utf8(self.message))


class Seconds(msgspec.Struct, frozen=True):
    """Where the time of one image went, seconds.

    ``turn`` is there only if the page lay on its side and was looked at once more, ``read`` only if it was read.
    """

    fetch: Amount = 0.0
    open: Amount = 0.0
    infer: Amount = 0.0
    post: Amount = 0.0
    total: Amount = 0.0
    turn: Amount | msgspec.UnsetType = msgspec.UNSET
    read: Amount | msgspec.UnsetType = msgspec.UNSET


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
        flags: of "downscaled", "exif_rotated", "page_rendered", "degraded", "tiled", "turned", "damaged", "blank",
            "small_text_lost", "attachments", "more_pictures", "xfa".
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
    index: Count
    image: str
    page: Count
    status: Literal["ok", "failed"]
    width: Count = 0
    height: Count = 0
    boxes: list[BoxRecord] = []
    input_size: tuple[int, int] | None = None
    flags: list[str] = []
    seconds: Seconds = Seconds()
    peak_rss_mb: Amount = 0.0
    attempts: Count = 1
    worker: str = ""
    model: ModelRecord | None = None
    error: ErrorRecord | None = None
    pages: Count | msgspec.UnsetType = msgspec.UNSET
    share: Score | msgspec.UnsetType = msgspec.UNSET


def worker_name(pid: int | None = None) -> str:
    """``host:pid`` of a process of this machine, of this one if no ``pid`` is given."""
    return f"{socket.gethostname()}:{os.getpid() if pid is None else pid}"


def box_records(boxes: Sequence[Box], lines: Sequence[Line] | None, digits: int = 2) -> list[BoxRecord]:
    """The boxes of a page, with their text if it was read.

    Args:
        boxes: of the page.
        lines: what stands in them; None if the page was not read.
        digits: of the corners, behind the point.
    """

    def rounded(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(round(float(x), digits), round(float(y), digits)) for x, y in points]

    corners = [rounded(box.points) for box in boxes]
    polygons = [rounded(box.polygon) if box.polygon else None for box in boxes]
    if lines is None:
        return [
            BoxRecord(points, round(float(box.score), 4), polygon=polygon)
            for points, box, polygon in zip(corners, boxes, polygons, strict=True)
        ]
    return [
        BoxRecord(
            points,
            round(float(box.score), 4),
            line.text,
            line.score,
            [WordRecord(word.text, list(word.points), word.score) for word in line.words],
            line.angle,
            line.order,
            polygon,
        )
        for points, box, line, polygon in zip(corners, boxes, lines, polygons, strict=True)
    ]


def seconds_record(spent: Mapping[str, float], fetch_s: float, total_s: float) -> Seconds:
    """Where a page's time went, rounded.

    Args:
        spent: seconds of "open", "infer", "post" and, as far as it was done, "turn" and "read".
        fetch_s: until the page's bytes were here.
        total_s: wall time of the page.
    """
    return Seconds(
        fetch=round(fetch_s, 4),
        open=round(spent["open"], 4),
        infer=round(spent["infer"], 4),
        post=round(spent["post"], 4),
        total=round(total_s, 4),
        turn=round(spent["turn"], 4) if "turn" in spent else msgspec.UNSET,
        read=round(spent["read"], 4) if "read" in spent else msgspec.UNSET,
    )


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
        boxes=box_records(detection.boxes, detection.lines),
        input_size=detection.input_size,
        flags=list(detection.flags),
        seconds=seconds_record(spent, 0.0, total_s),
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
