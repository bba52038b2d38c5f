"""One process at a time puts new files of a folder into a job: of two each took a file once, and it was two pages."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from producer.job.output_folder import FolderBusyError, OutputFolder
from producer.no_links import no_links


@contextmanager
def alone(folder: OutputFolder) -> Iterator[None]:
    """In the block no other watches for new files of the job, or looks for them.

    Raises:
        FolderBusyError: another does.
    """
    with folder.held():
        file = open(folder.private / "watched", "w", opener=no_links)  # noqa: SIM115 (closed below)
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderBusyError(
                f"another watch-folder (or --update) works in {folder.root}: leave new files to it, or stop it first"
            ) from None
        except OSError:  # a file system without locks: `locked` says it
            pass
        try:
            yield
        finally:
            folder.leave_unused()
