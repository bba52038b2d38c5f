"""The wire format: what goes to a worker (ImageTask) and what comes back (ImageRecord). JSON, versioned, small."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from detector.record import SCHEMA, UNREADABLE, BoxRecord, ErrorRecord, ErrorType, ImageRecord, ModelRecord, Seconds
from worker.errors import WorkerError
from worker.page_options import NO_OPTIONS, PageOptions
from worker.redis_keys import MOST_PAGES_OF_A_JOB, page_in

__all__ = [
    "JOB_NAME",
    "SCHEMA",
    "BoxRecord",
    "ErrorRecord",
    "ErrorType",
    "ImageRecord",
    "ImageTask",
    "MessageError",
    "ModelRecord",
    "Original",
    "Seconds",
    "decode_task",
    "encode",
    "failed_record",
    "split_task_id",
    "task_id",
]

MAX_BLOB_BYTES = 64 << 20
"""Of a page that travels through Redis, which takes 512 MB; but it and the producer hold a blob in memory at once. A
scan of 80 MP as JPEG has 30 MB. Here, since processes that count pages ask for it, and must not load Redis' client."""

MOST_RECORD_BYTES = 4 << 20
"""Of a record as JSON: 30,000 boxes, or 10,000 with text and words. What is longer in Redis is not read from there."""

_TOO_MUCH = 1 << 31
"""Of pages, and of pixels of a side. A job has 50,000,000 pages at most; Redis' own numbers end at 2^63."""

JOB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


class MessageError(WorkerError):
    """A message that is not one of ours, or of a schema this version does not speak."""


MOST_DEPTH = 16
"""Lists in lists of a message, and of what its body says; ours have 3."""


class Original(msgspec.Struct, frozen=True):
    """What a page was before the producer made it smaller for the way.

    Attributes:
        width: upright, pixels.
        height: upright, pixels.
        flags: what the record must say of it (``downscaled``, ``exif_rotated``, ``page_rendered``, ``damaged``).
        share: of its rows that could be read, of a damaged page.
    """

    width: int
    height: int
    flags: tuple[str, ...] = ()
    share: float | None = None


class ImageTask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One page to run.

    Attributes:
        schema: version of this format.
        job: the job's name.
        index: the page's line number in the job's manifest, from 0; with ``job`` the page's identity.
        image: the name that users see.
        uri: where the bytes are (storage.py): ``file://``, ``zip+file://archive#member``, ``redis-blob://``, ...
        page: page inside the file that users know, from 0.
        limit_side: the long side the network sees at most, pixels; 0 means the worker's own setting.
        blob_page: page inside the bytes, where the producer sent less than the whole file; -1: the same as ``page``.
        original: the page before the producer made it smaller; None: the bytes are as they were.
        options: thresholds and the like that the job asks for.
        pages: how many its file has, of page 0 where less than the whole file travels; 0: the bytes tell, or nobody.
        epoch: which job of that name; "" in messages of versions that did not have it.
    """

    # By a factory: what equals a plain default is left out on the wire, and a version that nobody sends helps nobody.
    schema: int = msgspec.field(default_factory=lambda: SCHEMA)
    job: str
    index: int
    image: str
    uri: str
    page: int = 0
    limit_side: int = 0
    blob_page: int = -1
    original: Original | None = None
    options: PageOptions = NO_OPTIONS
    pages: int = 0
    epoch: str = ""

    @property
    def page_in_bytes(self) -> int:
        """Which page of the bytes behind ``uri`` to open."""
        return self.page if self.blob_page < 0 else self.blob_page

    @property
    def task_id(self) -> str:
        """Celery's task id: derived from job and index, so that sending twice is harmless."""
        return task_id(self.job, self.index)


_task_decoder = msgspec.json.Decoder(ImageTask)
_encoder = msgspec.json.Encoder()


def task_id(job: str, index: int) -> str:
    """The Celery task id of a page."""
    return f"{job}:{index}"


def split_task_id(identifier: str) -> tuple[str, int] | None:
    """Job and index of one of our task ids, None for those of other programs, and where no job has such a page."""
    job, colon, index = identifier.rpartition(":")
    page = page_in(index.encode(errors="replace"))
    if not colon or page is None or not JOB_NAME.match(job):
        return None
    return job, page


def encode(message: ImageTask | ImageRecord) -> bytes:
    """The message as JSON bytes."""
    return _encoder.encode(message)


def encode_record(record: ImageRecord) -> tuple[ImageRecord, bytes]:
    """A record and its JSON; a failed one in its place if it is longer than `MOST_RECORD_BYTES`, or no UTF-8."""
    try:
        data = encode(record)
    except UnicodeEncodeError:  # half a surrogate pair in a text of the network's card: a page must have some record
        failed = msgspec.structs.replace(
            record,
            status="failed",
            boxes=[],
            flags=[],
            model=None,
            error=ErrorRecord("Internal", "a text in its record is no UTF-8"),
        )
        return failed, encode(failed)
    if len(data) <= MOST_RECORD_BYTES:
        return record, data
    said = (
        f"{len(record.boxes):,} boxes are a record of {len(data) >> 20} MiB, and no more than "
        f"{MOST_RECORD_BYTES >> 20} are taken; lower --limit-side, or cut the page into several"
    )
    failed = msgspec.structs.replace(record, status="failed", boxes=[], error=ErrorRecord("TooLarge", said))
    return failed, encode(failed)


def decode_task(data: bytes | dict[str, Any]) -> ImageTask:
    """Read a task from JSON bytes, or from the dict Celery already made of them.

    Raises:
        MessageError: wrong fields, wrong types, a bad job name, a number no page has, or a schema from another version.
    """
    try:
        task = _task_decoder.decode(data) if isinstance(data, bytes) else msgspec.convert(data, ImageTask)
    except UNREADABLE as error:
        raise MessageError(f"not an ImageTask: {error}") from None
    if task.schema != SCHEMA:
        raise MessageError(f"ImageTask of schema {task.schema}; this worker speaks {SCHEMA}: update the older side")
    numbers = (task.index, task.page, task.limit_side, task.pages)
    large = (
        max(task.page, task.limit_side, task.blob_page, task.pages) >= _TOO_MUCH or task.index >= MOST_PAGES_OF_A_JOB
    )
    if not JOB_NAME.match(task.job) or min(numbers) < 0 or large:
        raise MessageError(f"ImageTask with a bad job name, index, page or limit: {task.job!r} {task.index}")
    if task.original is not None and not all(
        0 < side < _TOO_MUCH for side in (task.original.width, task.original.height)
    ):
        raise MessageError(f"ImageTask with an original of no such size: {task.job!r} {task.index}")
    return task


def is_nested(value: object, most: int = MOST_DEPTH) -> bool:
    """Whether there are more lists in lists than this: what Python can just read of them it cannot always write."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return most == 0 or any(is_nested(one, most - 1) for one in value)


def is_typed(value: object) -> bool:
    """Whether kombu, which reads a message's body, makes something else of it than JSON says, or raises."""
    if isinstance(value, dict):
        return value.keys() == {"__type__", "__value__"} or any(map(is_typed, value.values()))
    return isinstance(value, list) and any(map(is_typed, value))


def page_named_in(message: object) -> ImageTask | None:
    """The page a message is about, though it is not an ImageTask of this version; None if it names none."""
    if not isinstance(message, dict):
        return None
    job, index, image, page, epoch = (message.get(name) for name in ("job", "index", "image", "page", "epoch"))
    if not isinstance(job, str) or not JOB_NAME.match(job) or type(index) is not int:  # True is one
        return None
    if not 0 <= index < MOST_PAGES_OF_A_JOB:
        return None
    return ImageTask(
        job=job,
        index=index,
        image=image if isinstance(image, str) else "",
        uri="",
        page=page if isinstance(page, int) and 0 <= page < _TOO_MUCH else 0,
        epoch=epoch if isinstance(epoch, str) else "",
    )


def failed_record(task: ImageTask, error_type: ErrorType, message: str, **fields: Any) -> ImageRecord:
    """The record of a page that could not be done. ``fields`` are further fields of :class:`ImageRecord`."""
    return ImageRecord(
        job=task.job,
        index=task.index,
        image=task.image,
        page=task.page,
        status="failed",
        error=ErrorRecord(type=error_type, message=message),
        **fields,
    )
