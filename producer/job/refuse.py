"""The failed record of a page that is known to fail before any worker sees it."""

from __future__ import annotations

from typing import cast, get_args

from detector.record import worker_name
from worker.ledger.ledger import Ledger
from worker.messages import ErrorType, ImageTask, encode, failed_record


def refuse(ledger: Ledger, task: ImageTask, error_type: str, message: str) -> None:
    """Write a page's one record; nothing happens if it has one."""
    if not ledger.feed([task]):
        return
    record = failed_record(task, known_type(error_type), message, worker=worker_name())
    ledger.finish(task.job, task.index, ok=False, record=encode(record))


def known_type(name: str) -> ErrorType:
    """The error type of this name, Internal if it is none."""
    return cast(ErrorType, name) if name in get_args(ErrorType) else "Internal"
