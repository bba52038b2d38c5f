"""Which job of a name is meant: a random word that the producer chooses, keeps in its folder and sends in every task.

Order of things: choose, write to the folder, create on the broker. Killed in between, the folder holds a word of no
job, and the next try chooses another.
"""

from __future__ import annotations

import secrets
import socket

from producer.job.output_folder import OutputFolder, write_atomically
from worker.ledger.ledger import JobReplacedError, Ledger
from worker.ops.worker_registry import program_version


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
    """
    status = ledger.status(job)
    if status is None:
        epoch = secrets.token_hex(8)
        folder.private.mkdir(parents=True, exist_ok=True)
        write_atomically(folder.epoch_file, epoch.encode())
        extra = {"manifest": str(folder.manifest), "version": program_version(), "host": socket.gethostname()}
        if request:
            extra["request"] = request
        if not ledger.create(job, total, extra, epoch=epoch):
            raise JobReplacedError(job)
        return epoch
    if status.epoch != folder.epoch or (not status.epoch and not _is_of_before(folder, status.extra)):
        raise JobReplacedError(job)
    return status.epoch


def _is_of_before(folder: OutputFolder, extra: dict[str, str]) -> bool:
    """Whether a job without an epoch, begun with the version before, is this folder's."""
    return extra.get("manifest", str(folder.manifest)) == str(folder.manifest)
