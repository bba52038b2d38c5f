"""Dead letters: images that were tried MAX_ATTEMPTS times and got no record: process or machine failed each time."""

from __future__ import annotations

from contextlib import suppress
from typing import cast

import redis

from worker.ledger.ledger import Ledger
from worker.messages import ErrorType, ImageRecord, ImageTask, encode, failed_record
from worker.redis_keys import DEAD_KEY

# For people who look at what went wrong lately; the job's own records are the full account.
KEEP = 1000
# What the ledger notes when a machine, not the page, was at fault (storage/spool.py): `Internal` in a record.
MACHINE_FAULT: ErrorType = "Internal"
# What the ledger notes when a decoder gave up at the hard memory limit (`detector.memory.limit_memory`): `OutOfMemory`
# in a record. C++ ends in abort() there, which costs the child, and a page that did so once will do it again.
ABORTED = "Aborted"
ABORTED_TRIES = 2

_EXPLANATIONS = {
    ABORTED: "its decoder gave up (abort), also at a smaller size: it is damaged, or needs more memory than "
    "OCRFLEET_MEMORY_LIMIT_MB allows",
    "WorkerLost": "the process running it died",
    "OutOfMemory": "memory ran out, also at a smaller size",
    "TimedOut": "it did not finish in time, also at a smaller size",
    MACHINE_FAULT: "the worker's disk, or the page's, is full or broken, or it has met a limit or an update, or the "
    "page's server broke off: its log says which; `retry` when it is well",
}


def is_hopeless(losses: tuple[str, ...]) -> bool:
    """Whether a page is given up before its tries are used up: its decoder aborted at the hard limit, smaller too."""
    return losses.count(ABORTED) >= ABORTED_TRIES


def steps_down(losses: tuple[str, ...]) -> int:
    """How many rungs of the ladder (`worker.detection.LADDER`) the next try goes down.

    One for each loss, but two after an abort at the hard limit, since it is the last try; a full disk is no reason.
    """
    return sum(0 if loss == MACHINE_FAULT else 2 if loss == ABORTED else 1 for loss in losses)


def dead_record(task: ImageTask, attempts: int, losses: tuple[str, ...], worker: str) -> ImageRecord:
    """The failed record of an image that used up its tries.

    Args:
        task: the page.
        attempts: tries made.
        losses: why each was lost, oldest first; a try on a machine that vanished left no reason.
        worker: who writes the record.
    """
    cause = losses[-1] if losses and losses[-1] in _EXPLANATIONS else "WorkerLost"
    if losses:
        reason = f"{_EXPLANATIONS.get(cause, 'it was lost')} ({', '.join(losses)})"
    else:
        reason = "no try left a trace: its machine vanished, or the broker took no writes; `retry` it"
    message = f"given up after {attempts} tries: {reason}"
    error_type = "OutOfMemory" if cause == ABORTED else cause
    return failed_record(task, cast(ErrorType, error_type), message, attempts=attempts, worker=worker)


def record_dead_letter(ledger: Ledger, record: ImageRecord, *, epoch: str = "") -> bool:
    """Write a dead image's one record, and put it on the list people look at. False if it had a record already."""
    data = encode(record)
    if not ledger.finish(record.job, record.index, ok=False, record=data, epoch=epoch):
        return False
    with suppress(redis.ResponseError):  # a full broker, or a stranger's stream: the record itself is written
        ledger.client.xadd(DEAD_KEY, {"record": data}, maxlen=KEEP, approximate=True)
    ledger.client.expire(DEAD_KEY, ledger.ttl_s)
    return True


def latest_dead_letters(client: redis.Redis, count: int = KEEP) -> list[bytes]:
    """The latest dead letters as record JSON, newest first."""
    return [fields.get(b"record", b"") for _, fields in client.xrevrange(DEAD_KEY, count=count)]
