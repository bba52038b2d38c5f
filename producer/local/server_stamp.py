"""Whether a private server's data was written by this user's commands, on this machine, and by nobody else.

An output folder that somebody handed over may hold an append-only file of 700 bytes that Valkey takes 6 GB for, each
time: it has no limit while it reads. What is not ours is moved aside, and the job goes on from its results.
"""

from __future__ import annotations

import os
from pathlib import Path

from producer.folder_tree import entries_below
from producer.no_links import is_open_to_others
from producer.user_secret import is_stamped, user_secret, write_stamp

STAMP = "written-by"


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
