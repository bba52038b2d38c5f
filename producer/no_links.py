"""Folders and files that another user may have prepared: nothing is written through a link, or into his folder."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from detector.errors import read_bounded
from detector.images.regular_file import open_regular, opened
from producer.errors import ProducerError
from producer.folder_tree import entries_below


class OthersFolderError(ProducerError):
    """A folder that results would go to is another user's. The message names it and the remedy."""


def no_links(path: str, flags: int) -> int:
    """Opener for `open`: who put a link where our lock or log goes had us empty a file of ours, or write into it.

    Where there was a pipe, `open` never came back.

    Raises:
        OSError: with the path: ELOOP, it is a link; EINVAL, it is no regular file.
    """
    return opened(path, flags | os.O_NOFOLLOW)


def owner_of_new(folder: Path) -> set[int]:
    """Whose files those are that we make in a folder: not ours, by number, on NFS that squashes or CIFS with uid=.

    Empty where we may make none.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as new:
            return {os.fstat(new.fileno()).st_uid}
    except OSError:
        return set()


def check_own(folder: Path, *, may_be_link: bool = False) -> None:
    """Refuse a folder that another user made: whatever is written there, he may have put a link in its place.

    Records were appended to a ~/.bashrc, a lock emptied a key, and the folder beside a link was removed with all in it.
    Root's folders are taken: root needs no such trick. So are those of a share that gives all we make to their owner.

    Args:
        folder: one that is there; what is not is fine.
        may_be_link: a link of this user is fine, too: he chose where it leads.

    Raises:
        OthersFolderError: it is.
    """
    try:
        itself = folder.lstat()
        there = folder.stat() if may_be_link else itself
    except FileNotFoundError:
        return
    strangers = {itself.st_uid, there.st_uid} - {os.geteuid(), 0}
    if strangers and strangers - owner_of_new(folder):
        raise OthersFolderError(f"{folder} is another user's folder: name one of your own, or a new one inside it")
    if not may_be_link and not stat.S_ISDIR(itself.st_mode):
        raise OthersFolderError(f"{folder} is a link, or no folder: remove it, or name another output folder")


def refuse_links(folder: Path) -> None:
    """Refuse a folder that is another's (`check_own`), or holds what we make none of: links, FIFOs, devices, sockets.

    Unpacked from a stranger's archive they are one's own by their owner: through one a log was written to a ~/.profile.

    Raises:
        OthersFolderError: it does. One that is not there is fine.
    """
    check_own(folder)
    try:
        for entry in entries_below(folder, strict=True):
            if entry.is_symlink():
                raise OthersFolderError(f"{entry.path} is a link: remove it, or name another output folder")
            if not entry.is_dir() and not entry.is_file():
                raise OthersFolderError(f"{entry.path} is no file: remove it, or name another output folder")
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not folder.exists():
            return
        where = f"{error.filename} cannot be listed ({error.strerror})"
        raise OthersFolderError(f"{where}: remove it, or name another output folder") from None


MOST_SMALL_BYTES = 16 * 2**20
"""Of a job's own small files, whose largest lists the paths of a request."""


def read_small(path: Path) -> bytes:
    """A small file of a job's folder, perhaps of somebody: no FIFO that nobody writes to, no 6 GB of zeros.

    Raises:
        OSError: there is none, it is no regular file, or larger than 16 MiB.
    """
    with open_regular(path) as file:
        return read_bounded(file, MOST_SMALL_BYTES)
