"""Which of the broker's jobs is a folder's of the page: names alone do not tell, two pages may share a broker."""

from __future__ import annotations

from producer.errors import OtherJobError
from producer.job.job_epoch import created_here, open_job
from producer.job.output_folder import OutputFolder, write_atomically
from worker.ledger.ledger import JobStatus, Ledger


class NameTaken(Exception):  # noqa: N818  # nothing is wrong with the job
    """It is left alone, and ours waits."""

    def __init__(self) -> None:
        """Say it in one line."""
        super().__init__("another producer's job on the broker has its name")


def is_anothers(folder: OutputFolder, status: JobStatus | None) -> bool:
    """Whether the broker's job of this name is not the folder's: neither its epoch nor its place nor its time is.

    By all: who has a password of ours may write over some of them, and the job is to go on.
    """
    if status is None or (status.epoch and status.epoch == folder.epoch):
        return False
    if (created := created_here(folder)) and created == round(status.created_s * 1000):
        return False
    return status.extra.get("manifest") != folder.known_as


def ours(folder: OutputFolder, ledger: Ledger, name: str) -> JobStatus | None:
    """The folder's job on the broker; None: it is not there."""
    status = ledger.status(name)
    return None if is_anothers(folder, status) else status


def forget_ours(folder: OutputFolder, ledger: Ledger, name: str) -> bool:
    """Remove the keys of the folder's job. False: those of its name are another's, and stay."""
    if is_anothers(folder, ledger.status(name)):
        return False
    ledger.forget(name, folder.epoch)
    return True


def open_ours(folder: OutputFolder, ledger: Ledger, name: str, total: int) -> tuple[str, bool]:
    """Create the job, or go on with it: its epoch, and whether it is new.

    Args:
        folder: of the job, locked by the caller.
        ledger: of the broker.
        name: of the job.
        total: pages.

    Raises:
        NameTaken: the broker's job of this name is another's.
        JobReplacedError: it was ours; what tells it from others was written over.
    """
    status = ledger.status(name)
    if is_anothers(folder, status):
        raise NameTaken
    if status is not None and not folder.epoch:  # begun by a version that did not keep it
        write_atomically(folder.epoch_file, status.epoch.encode("ascii", "replace"))
    before = folder.epoch
    try:
        epoch = open_job(folder, ledger, name, total)
    except OtherJobError:  # "another machine goes on with it": none does with a job of the page
        epoch = before
    return epoch, epoch != before
