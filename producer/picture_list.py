"""The list of pages by which a job's pictures are opened, and who may have written it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from producer.errors import ProducerError
from producer.held_folder import as_named
from producer.job.manifest import ManifestIndex
from producer.job.output_folder import JobRequest, OutputFolder, roots_of
from producer.no_links import OthersFolderError, owner_of_new

logger = logging.getLogger(__name__)


class PictureList(NamedTuple):
    """A list of pages that is held open.

    Attributes:
        pages: the list.
        roots: where the pictures must lie; empty: anywhere. None: none is opened.
        may_fetch: whether addresses are asked for, too.
    """

    pages: ManifestIndex
    roots: tuple[Path, ...] | None
    may_fetch: bool


@contextmanager
def picture_list(place: Path) -> Iterator[PictureList]:
    """The list of a job's output folder, or the one that `enqueue` kept of it.

    Who may write into OUT wrote another file of the user's into the list of a `run -`, and found it in the report. What
    others may have written opens pictures below the job's sources alone, and none where these do not say where.

    Args:
        place: the output folder, held open.

    Raises:
        FileNotFoundError: it has no list.
    """
    folder = OutputFolder(place)
    listed, roots = folder.picture_list()
    with ManifestIndex(listed) as pages:
        # What is looked at is the file that is read, whatever has its name by now.
        ours = roots is None or listed != folder.manifest or _is_ours(pages.status, folder)
        if not ours and not roots:
            said = "no pictures: others can write to %s, and may have changed it: look at it, then `chmod go-w` it"
            logger.warning(said, as_named(str(listed)))
        yield PictureList(pages, roots if ours else roots or None, ours)


def check_list(folder: OutputFolder, request: JobRequest) -> None:
    """Go on with no list that others may have written, where the job's sources do not say which files may be in it.

    Workers of `run` read below the sources else. A list that is not there yet is fine.

    Raises:
        OthersFolderError: there is one.
    """
    try:
        status = folder.manifest.lstat()
    except FileNotFoundError:
        return
    # Sources that bind may still leave workers free (an address among them, a hundred folders); an owner is plain.
    if not _is_ours(status, folder) and (not roots_of(request, gone=True) or _is_anothers(status, folder)):
        raise OthersFolderError(
            f"others can write to {as_named(str(folder.manifest))}, and may have changed which files are read: "
            "look at it, make it yours if it is not (`chown`), then `chmod go-w` it"
        )


def _is_anothers(status: os.stat_result, folder: OutputFolder) -> bool:
    return status.st_uid not in (os.geteuid(), 0, *owner_of_new(folder.root))


def _is_ours(status: os.stat_result, folder: OutputFolder) -> bool:
    """Whether a list in OUT is this user's, and nobody else can write to it as far as its disk knows of such things."""
    try:
        with folder.held(make=False):  # after which `.ocrfleet` is closed on any disk that knows modes
            private, out = folder.private.stat(), folder.place.stat()
    except (OSError, ProducerError):
        return False
    if status.st_uid not in (os.geteuid(), 0, private.st_uid):
        return False
    return bool(private.st_mode & 0o022) or not status.st_mode & 0o022 or not out.st_mode & 0o011
