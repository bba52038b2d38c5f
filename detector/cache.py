"""Where this program keeps what it can make again; and who else could write there, so that it is not believed."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/ocrfleet or ~/.cache/ocrfleet; it need not exist, nor be writable."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ocrfleet"
    except RuntimeError:  # a container's user without a home: nothing is kept
        return Path("/nonexistent/ocrfleet")


def who_may_change(folder: Path) -> Path | None:
    """The first of a folder, its files, and the folders above that others may change, or put another in its place.

    In a cache of a group's one of it had put a network by the name of a public one, with a card that said so: pages of
    all were "ok", without a box.
    """
    with suppress(OSError):
        if others_write(folder, folder.stat()):  # also where it is sticky: what is not there yet may be made
            return folder
        with os.scandir(folder) as entries:
            for entry in entries:
                status = entry.stat()
                is_anothers = status.st_uid not in (os.geteuid(), 0) or others_write(Path(entry.path), status)
                if is_anothers and not entry.is_dir():
                    return Path(entry.path)
    for place in dict.fromkeys((folder, Path(os.path.realpath(folder)))):
        if (above := others_above(place / "entry")) is not None:
            return above
    return None


def others_above(path: Path) -> Path | None:
    """The first folder above whose others may put another one in its place: who may write into it without sticky bit.

    Those are its owner, where that is neither this user nor root, its group, but for a group of this user alone as far
    as lists of users say, and who an ACL names.
    """
    for above in path.parents:
        try:
            status = above.stat()
        except OSError:
            continue
        is_kept = status.st_mode & stat.S_ISVTX
        if status.st_uid not in (os.geteuid(), 0) or (others_write(above, status) and not is_kept):
            return above
    return None


def others_write(folder: Path, status: os.stat_result) -> bool:
    """Whether others than this user may write into a folder of his, or of root's."""
    if status.st_mode & stat.S_IWOTH:
        return True
    if not status.st_mode & stat.S_IWGRP:
        return False
    with suppress(OSError):  # without an ACL, or on a disk that knows none
        os.getxattr(folder, "system.posix_acl_access")
        return True
    return status.st_gid not in _own_groups()


def _own_groups() -> set[int]:
    """This user's own, where nobody else is in it, or has it as his primary one.

    Not root's for that it is root's: its members are not root, and in OpenShift it is the group of every process.
    """
    try:
        own = pwd.getpwuid(os.geteuid())
        group = grp.getgrgid(own.pw_gid)
    except KeyError:
        return set()
    others = {*group.gr_mem, *(user.pw_name for user in pwd.getpwall() if user.pw_gid == own.pw_gid)} - {own.pw_name}
    return set() if others or group.gr_name != own.pw_name else {own.pw_gid}
