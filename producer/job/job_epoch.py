"""Which job of a name is meant: a random word that the producer chooses, keeps in its folder and sends in every task.

Order of things: choose, write to the folder, create on the broker. Killed in between, the folder holds a word of no
job, and the next try chooses another.

Beside it lies when the broker made the job. Who has a password of ours may write over one of the two there: the other
still tells that it is this folder's, which puts both right (the time alone where the machine is the job's, too).

A machine that goes on with another's job (producer/handover) is its *heir*: a second word, in the hash and its folder.
The machine before it, should it come back, has another, or none, and is refused: two lists would grow apart.
"""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from pathlib import Path

from redis import ResponseError

from producer.bounds import MOST_PAGES_OF_A_JOB
from producer.errors import OtherJobError
from producer.job.manifest import count_manifest
from producer.job.output_folder import OutputFolder, state_folder, write_atomically
from producer.no_links import read_small
from worker.broker.wrong_types import is_wrong_type
from worker.ledger.comparison import Comparison
from worker.ledger.ledger import STATE_CHUNK, JobReplacedError, JobStatus, Ledger
from worker.ops.worker_registry import program_version
from worker.redis_keys import JobKeys, number_in


def open_job(folder: OutputFolder, ledger: Ledger, job: str, total: int, request: str = "") -> str:
    """Create the job on the broker, or find that the one there is this folder's. Returns its epoch.

    Args:
        folder: of the job on this machine, locked by the caller.
        ledger: of the broker.
        job: its name.
        total: pages.
        request: what was asked for, for whoever collects.

    Raises:
        JobReplacedError: the broker's job of this name is another one.
        OtherJobError: another machine has gone on with it.
    """
    status = recognised(folder, ledger, ledger.status(job))
    if status is None:
        epoch = secrets.token_hex(8)
        with folder.held():
            _time_file(folder).unlink(missing_ok=True)  # of the job before: by it the new one were that
            write_atomically(folder.epoch_file, epoch.encode())
        extra = {"manifest": folder.known_as, "version": program_version(), "host": socket.gethostname()}
        if folder.heir:
            extra["heir"] = folder.heir
        if request:
            extra["request"] = request
        created_ms = ledger.create(job, total, extra, epoch=epoch)
        if not created_ms:
            raise JobReplacedError(job)
        _note_time(folder, created_ms)
        return epoch
    refuse_others(folder, status)
    if not created_here(folder):  # begun by a version that did not keep it
        _note_time(folder, round(status.created_s * 1000))
    return status.epoch


def refuse_others(folder: OutputFolder, status: JobStatus) -> None:
    """Ends whoever would change the job on the broker, where it is not this folder's.

    Args:
        folder: of the job on this machine.
        status: of the job on the broker, `recognised`.

    Raises:
        JobReplacedError: the broker's job of this name is another one.
        OtherJobError: another machine has gone on with it.
    """
    if status.epoch != folder.epoch or (not status.epoch and not _is_of_before(folder, status.extra)):
        raise JobReplacedError(status.job)
    if not is_ours(folder, status):
        raise _inherited(status.job)


def recognised(folder: OutputFolder, ledger: Ledger, status: JobStatus | None) -> JobStatus | None:
    """The job's status, once its epoch and its time in Redis are this folder's again, if one of them is.

    Args:
        folder: of the job on this machine.
        ledger: of the broker.
        status: as it is there; None: there is no such job.

    Raises:
        JobReplacedError: it became another one meanwhile.
    """
    created = created_here(folder)
    if status is None or not created:
        return status
    same_epoch, same_time = folder.epoch == status.epoch, created == round(status.created_s * 1000)
    if same_epoch == same_time:
        return status
    # Of a job of another machine the time alone may be one that this one knew: it would be shut out for good.
    place = {"manifest": folder.known_as, "host": socket.gethostname()}
    if not same_epoch and place != {name: status.extra.get(name, "") for name in place}:
        return status
    known = status._replace(epoch=folder.epoch, created_s=created / 1000)
    Comparison(ledger, status.job, known).put_identity_right()
    return ledger.status(status.job)


def _note_time(folder: OutputFolder, created_ms: int) -> None:
    with folder.held():
        write_atomically(_time_file(folder), f"{folder.epoch} {created_ms}".encode())


def created_here(folder: OutputFolder) -> int:
    """When the broker made this folder's job; 0: it was not kept, or is no time."""
    try:
        epoch, _, time = read_small(_time_file(folder)).partition(b" ")
        # Of another epoch: a version that keeps no time began the folder's job anew.
        return (number_in(time.strip()) or 0) if epoch == folder.epoch.encode() else 0
    except FileNotFoundError:
        return 0


def _time_file(folder: OutputFolder) -> Path:
    return folder.epoch_file.with_name("created_ms")


def _inherited(job: str) -> OtherJobError:
    return OtherJobError(
        f"another machine took {job} over (`ocr-producer resume` was given there): go on with it there; if that one is "
        f"lost, move {state_folder(job).root} away, then `ocr-producer resume {job}` here"
    )


def epoch_if_known(folder: OutputFolder) -> str:
    """The folder's epoch, empty where it cannot be read: what others did to it keeps no job from being removed."""
    with suppress(OSError):
        return folder.epoch
    return ""


def is_ours(folder: OutputFolder, status: JobStatus) -> bool:
    """Whether this folder's machine is the one that feeds the job."""
    return folder.epoch == status.epoch and folder.heir == status.extra.get("heir", "")


def pages_here(folder: OutputFolder, status: JobStatus) -> int:
    """Pages of a job, by its list where that is here, whoever feeds the job by now; another machine may add to them."""
    if folder.epoch != status.epoch or not folder.manifest.exists():
        return status.total
    return max(status.total, count_manifest(folder.manifest))


def pages_by_states(ledger: Ledger, status: JobStatus) -> int:
    """Pages that a job had by the bytes of their states, if these are more than its number says, which is wrong then.

    The string is as long as the job from its beginning on. A smaller number had it complete with a part of its pages.
    """
    end = max(0, status.total)
    try:
        for first in range(end, MOST_PAGES_OF_A_JOB, STATE_CHUNK):
            end += len(states := ledger.states(status.job, first, STATE_CHUNK))
            if len(states) < STATE_CHUNK:
                break
    except ResponseError as error:
        if not is_wrong_type(error):
            raise
    return end


def refuse_if_inherited(ledger: Ledger, job: str, heir: str) -> None:
    """Ends a producer that slept while another machine took its job over.

    Raises:
        OtherJobError: it did.
    """
    if (ledger.client.hget(JobKeys.of(job).job, "heir") or b"") != heir.encode():
        raise _inherited(job)


def claim_inheritance(folder: OutputFolder, ledger: Ledger, status: JobStatus) -> None:
    """From now on this folder's machine feeds the job, and no other."""
    heir = secrets.token_hex(8)
    write_atomically(folder.epoch_file, status.epoch.encode("ascii", "replace"))
    write_atomically(folder.heir_file, heir.encode())
    _note_time(folder, round(status.created_s * 1000))
    fields = {"heir": heir, "host": socket.gethostname(), "manifest": folder.known_as}
    ledger.note(status.job, fields)


def _is_of_before(folder: OutputFolder, extra: dict[str, str]) -> bool:
    """Whether a job without an epoch, begun with the version before, is this folder's."""
    return extra.get("manifest", folder.known_as) == folder.known_as
