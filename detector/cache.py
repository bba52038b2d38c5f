"""Where this program keeps what it can make again; and who else could write there, so that it is not believed."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

MOST_LINKS = 40  # as the kernel follows


def base_folder(environ: Mapping[str, str], name: str, below_home: str) -> Path | None:
    """$XDG_CACHE_HOME or the like, else that folder in the user's home; None without a home, as in some containers.

    Never below the current one, which may be a stranger's: what is relative is ignored (XDG base directories).
    """
    if (named := Path(environ.get(name, ""))).is_absolute():
        return named
    try:
        return home / below_home if (home := Path.home()).is_absolute() else None
    except RuntimeError:  # neither HOME nor an entry in passwd
        return None


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/ocrfleet or ~/.cache/ocrfleet; it need not exist, nor be writable."""
    return (base_folder(os.environ, "XDG_CACHE_HOME", ".cache") or Path("/nonexistent")) / "ocrfleet"


def who_may_change(folder: Path) -> Path | None:
    """The first of a folder, its files, and the folders above that others may change, or put another in its place.

    In a cache of a group's one of it had put a network by the name of a public one, with a card that said so: pages of
    all were "ok", without a box.
    """
    try:
        if others_write(folder, folder.stat()):  # also where it is sticky: what is not there yet may be made
            return folder
        files = [path for path in folder.iterdir() if path.is_symlink() or not path.is_dir()]
    except OSError:
        files = []
    changeable = (path for path in files if _may_be_changed(path))
    return next(changeable, None) or others_above(folder / "entry")


def _may_be_changed(file: Path) -> bool:
    """Whether a file, or a link to it, is another's, or may be written by others."""
    for look in (os.lstat, os.stat):
        try:
            status = look(file)
        except FileNotFoundError:
            continue
        except OSError:  # it leads in a circle, or to where one may not look
            return True
        if status.st_uid not in _trusted() or (not stat.S_ISLNK(status.st_mode) and others_write(file, status)):
            return True
    return False


def others_above(path: Path) -> Path | None:
    """The first folder or link on the way to a name that others may put another in the place of, wherever links lead.

    Others are who may write into a folder without sticky bit: its owner, where that is neither this user nor root (nor
    who called sudo), its group, but for a group of this user alone as far as lists of users say, and who an ACL names.
    Of a link it is its owner who counts, and the folder that it lies in. Of what is not there yet only what is above.
    """
    waiting, place, links = list(path.absolute().parts[1:]), Path("/"), 0
    while waiting and links < MOST_LINKS:
        try:
            status = place.stat()
            is_kept = status.st_mode & stat.S_ISVTX
            if status.st_uid not in _trusted() or (others_write(place, status) and not is_kept):
                return place
            entry = place / waiting.pop(0)
            itself = entry.lstat()
        except OSError:
            return None
        if not stat.S_ISLNK(itself.st_mode):
            place = entry.parent.parent if entry.name == ".." else entry
            continue
        if itself.st_uid not in _trusted():
            return entry
        target = entry.readlink()
        links, place = links + 1, Path("/") if target.is_absolute() else place
        waiting = [*(target.parts[1:] if target.is_absolute() else target.parts), *waiting]
    return path if waiting else None


def _trusted() -> set[int]:
    """Whose `/` is, too: in a user namespace that has no root, what is root's has the number of all others."""
    me, caller = os.geteuid(), os.environ.get("SUDO_UID", "")
    return {me, 0, Path("/").stat().st_uid} | ({int(caller)} if me == 0 and caller.isdecimal() else set())


def others_reach(socket: Path) -> bool:
    """Whether others than this user may speak to a Unix socket, or put one of theirs in its place; root always may.

    Linux asks for the right to write to it, and to enter each folder on the way.
    """
    try:
        real = socket.resolve(strict=True)
        statuses = [(place, place.stat()) for place in (real, *real.parents)]
    except OSError:
        return True
    asked = (stat.S_IWOTH, stat.S_IWGRP), *[(stat.S_IXOTH, stat.S_IXGRP)] * len(real.parents)
    closed = (
        status.st_uid in _trusted() and not _others_may(place, status, *bits)
        for (place, status), bits in zip(statuses, asked, strict=True)
    )
    return not any(closed) or others_above(socket) is not None


def others_write(folder: Path, status: os.stat_result) -> bool:
    """Whether others than this user may write into a folder of his, or of root's."""
    return _others_may(folder, status, stat.S_IWOTH, stat.S_IWGRP)


def _others_may(folder: Path, status: os.stat_result, everybody: int, group: int) -> bool:
    if status.st_mode & everybody:
        return True
    if not status.st_mode & group:
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
