"""Pages that are not sent: why not, and their one record."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

from detector.images.regular_file import open_regular
from detector.images.sniff import READABLE, SNIFFED_BYTES, kind_of, known_but_unread
from detector.record import worker_name
from producer.errors import ProducerError
from worker.ledger.ledger import Ledger
from worker.messages import ErrorType, ImageTask, encode, failed_record


class CannotSendError(ProducerError):
    """A page whose bytes cannot be had here. ``str()`` is one line; ``type`` is the record's."""

    def __init__(self, error_type: ErrorType, message: str) -> None:
        """Both go into the page's record."""
        super().__init__(message)
        self.type = error_type


def refuse_others(path: Path, name: str) -> None:
    """Only what begins like a picture or a PDF leaves this machine, whatever it is called.

    Raises:
        CannotSendError: it does not.
    """
    with open_regular(path) as stream:
        start = stream.read(SNIFFED_BYTES)
    if not start:
        raise CannotSendError("CorruptImage", f"{name}: the file is empty (0 bytes)")
    if kind_of(start, path.name) is None:
        what, remedy = known_but_unread(start) or ("not an image", "")
        said = remedy or f"expected {READABLE}"
        raise CannotSendError("UnsupportedFormat", f"{name}: {what}; {said}. It was not sent")


def refuse(ledger: Ledger, task: ImageTask, error_type: str, message: str) -> None:
    """Write a page's one record; nothing happens if it has one."""
    if not ledger.feed([task]):
        return
    record = failed_record(task, known_type(error_type), message, worker=worker_name())
    ledger.finish(task.job, task.index, ok=False, record=encode(record), epoch=task.epoch)


def known_type(name: str) -> ErrorType:
    """The error type of this name, Internal if it is none."""
    return cast(ErrorType, name) if name in get_args(ErrorType) else "Internal"
