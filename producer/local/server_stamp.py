"""Whether a private server's data was written by this user's commands, on this machine, and by nobody else.

An output folder that somebody handed over may hold an append-only file of 700 bytes that Valkey takes 6 GB for, each
time: it has no limit while it reads. What is not ours is moved aside, and the job goes on from its results.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from producer.folder_tree import entries_below, remove_tree
from producer.held_folder import as_named
from producer.job.output_folder import OutputFolder
from producer.no_links import OthersFolderError, hold_own, is_open_to_others, keep_from_others
from producer.user_secret import is_stamped, user_secret, write_stamp

STAMP = "written-by"
logger = logging.getLogger(__name__)


def is_ours(data: Path) -> bool:
    """Whether a server's folder is new, or stamped. Where no secret can be kept, each is."""
    if not data.is_dir() or not any(data.iterdir()):
        return True
    return not user_secret() or is_stamped(data / STAMP)


def is_kept_from_others(data: Path) -> bool:
    """Whether all below a server's folder is this user's own, and nobody else can write to it.

    `chmod -R g+w` opens the folder that Valkey makes in it, too: links that lay there had it empty a ~/.bashrc, and
    append to it. To take the right away is not enough: who opened a file, or the folder, before keeps it.

    Args:
        data: the folder, itself this user's and kept from others (`hold_own`, `keep_from_others`).
    """
    above = data.stat()
    owners = {os.geteuid(), 0, above.st_uid}  # a share may give all we make to one owner
    try:
        below = (entry.stat(follow_symlinks=False) for entry in entries_below(data, strict=True))
        return all(status.st_uid in owners and not is_open_to_others(status, above) for status in below)
    except OSError:  # what cannot be listed
        return False


def stamp(data: Path) -> None:
    """From now on it is ours."""
    write_stamp(data / STAMP)


def unstamp(data: Path) -> None:
    """Others could write into it: who did may have moved a folder of the user's there, which is not ours to remove."""
    (data / STAMP).unlink(missing_ok=True)


def why_not_ours(data: Path, *, was_open: bool) -> str:
    """Why nothing in a server's folder is to be used, or removed; empty: it is ours.

    Args:
        data: the folder, itself this user's, and kept from others by now.
        was_open: others could write into it until then.
    """
    if not is_ours(data):
        return "not of this user's commands on this machine"
    return "others' to write" if was_open or not is_kept_from_others(data) else ""


def set_aside(data: Path, kind: str, why: str) -> None:
    """Move a server's folder away, and say so."""
    aside = data.with_name(f"{data.name}-{kind}-{time.strftime('%Y%m%d-%H%M%S')}")
    data.rename(aside)
    logger.warning(
        "the local server's data is %s: moved to %s; the job goes on from the results", why, as_named(str(aside))
    )


def forget_server(folder: OutputFolder) -> None:
    """Remove the private server's data: its job is done and collected. What is not ours is moved aside.

    Who may write into `.ocrfleet` could give a folder of the user's the server's name, which he cannot empty himself.
    """
    with suppress(FileNotFoundError), folder.held(make=False):
        try:
            with hold_own(folder.server_data) as held:
                why = why_not_ours(held.path, was_open=keep_from_others(held))
        except OthersFolderError:  # another's, or a link
            why = "not of this user's commands on this machine"
        if why:
            set_aside(folder.server_data, "foreign", why)
        else:
            remove_tree(folder.server_data)
