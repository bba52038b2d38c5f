"""Whose records a results file holds: indices mean nothing without their job, so two jobs must never share one file.

Each record names its job. A job that was forgotten and enqueued again has the same name and other pages, so the time
its job was created is kept beside the file, in the output folder's private part.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from detector.record import UNREADABLE
from producer.errors import OtherJobError
from producer.job.output_folder import held_private, write_atomically
from producer.no_links import read_small
from worker.ledger.ledger import JobStatus


class ResultsOwner(msgspec.Struct, frozen=True):
    """What tells one job from all others.

    Attributes:
        job: its name.
        created_ms: when it was created on its broker, Unix time in milliseconds.
        epoch: its random word; "" from a version that did not note it. Both must be the job's: by one of them, which
            somebody may have written into Redis, its records were taken for those of another, and thrown away.
    """

    job: str
    created_ms: int
    epoch: str = ""


def owner_of(status: JobStatus) -> ResultsOwner:
    """Who owns the records of this job."""
    return ResultsOwner(status.job, round(status.created_s * 1000), status.epoch)


def owner_file(results: Path) -> Path:
    """Where it is noted whose a results file is."""
    return results.parent / ".ocrfleet" / "origin.json"


def check_name(results: Path, found: str, wanted: str) -> None:
    """Refuse records of another job.

    Raises:
        OtherJobError: they are.
    """
    if found != wanted:
        raise OtherJobError(f"{results} holds records of job {found}, not of {wanted}: {_REMEDY}")


def claim(results: Path, owner: ResultsOwner) -> None:
    """Note whose records the file holds from now on.

    Raises:
        OtherJobError: it is there already, for another job or for an earlier one of the same name.
    """
    file = owner_file(results)
    before = _read(file) if results.exists() else None
    if before is not None and before == msgspec.structs.replace(owner, epoch=before.epoch and owner.epoch):
        if not before.epoch:
            replace_owner(results, owner)
        return
    if before is not None:
        check_name(results, before.job, owner.job)
        raise OtherJobError(f"{results} holds records of an earlier job named {owner.job}: {_REMEDY}")
    replace_owner(results, owner)


def replace_owner(results: Path, owner: ResultsOwner) -> None:
    """Note whose records the file holds, whoever had it before: the caller has looked at every record."""
    with held_private(results.parent) as (_, private):
        write_atomically(private.path / owner_file(results).name, msgspec.json.encode(owner))


def _read(file: Path) -> ResultsOwner | None:
    """None where nothing was noted: a folder of an older version, or of `run`."""
    try:
        return msgspec.json.decode(read_small(file), type=ResultsOwner)
    except (FileNotFoundError, *UNREADABLE):
        return None


_REMEDY = "choose another -o, or move that file away first"
