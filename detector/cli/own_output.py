"""What is written where its name leads, also to a pipe: `detect -o` has each page's line there as soon as it is done.

All else is written beside its name and takes it then (`detector.atomic`), which replaces a link.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_MOST_LINKS = 40  # as Linux has it


def own_target(path: str, flags: int) -> int:
    """Opener for `open`, to write: through links of this user's and root's, and into no pipe of another's.

    In a folder that a group may write into one of it put a link where the boxes were to be. They went into a ~/.bashrc,
    where a picture called `$(cmd).jpg` ran `cmd`. Each link is read by the descriptor at which its owner was seen.

    Raises:
        OSError: with the path: ELOOP, there is a link of another user's, or too many; EPERM, a pipe of his.
    """
    place = Path(path)
    for _ in range(_MOST_LINKS):
        if os.path.realpath(place.parent).startswith("/proc/"):  # /dev/stdout, >(command): the system's own links
            return os.open(place, flags, 0o666)
        _refuse_pipe(place, path)
        try:
            return os.open(place, flags | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        place = place.parent / _target(place, path)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def refuse_others_link(path: Path) -> None:
    """For a folder to write into, before the work begins.

    Raises:
        OSError: its name is a link of another user's.
    """
    if path.is_symlink():
        _target(path, str(path))


def _target(link: Path, named: str) -> str:
    descriptor = os.open(link, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid not in (os.geteuid(), 0):
            why = "is a link of another user, which is not followed: remove it, or name where it leads"
            raise OSError(errno.ELOOP, why, named)
        return os.readlink("", dir_fd=descriptor)
    finally:
        os.close(descriptor)


def _refuse_pipe(place: Path, named: str) -> None:
    """He may put one there after this look, too: then it waits for him, and nothing of this user's is written over."""
    try:
        status = place.lstat()
    except OSError:  # not there; or who opens it will say what is wrong
        return
    if stat.S_ISFIFO(status.st_mode) and status.st_uid not in (os.geteuid(), 0):
        raise OSError(errno.EPERM, "is another user's pipe: remove it, or name another file", named)
