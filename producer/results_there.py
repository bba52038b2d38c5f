"""Results and lists of an output folder, to be read: none that a link of another user's leads to."""

from __future__ import annotations

import errno
import io
import os
import secrets
from contextlib import suppress
from pathlib import Path

from detector.images.regular_file import ReadFile, open_regular
from producer.held_folder import hold
from producer.no_links import no_links, owner_of_new

_NAME = "user.ocrfleet.name"


def name_of(file: int) -> str:
    """What tells a results file from one that took its place: a name that none had before. Who asks first gives it.

    Its inode is none: ext4 gives that of a file which is gone to the next one, and a client that went on where it had
    been in the file before was told half a line.
    """
    with suppress(OSError, AttributeError):  # a file system, or a system, without attributes of files
        if _NAME not in os.listxattr(file):
            with suppress(FileExistsError):  # somebody else asked meanwhile
                os.setxattr(file, _NAME, secrets.token_hex(8).encode(), os.XATTR_CREATE)
        return os.getxattr(file, _NAME)[:16].decode("ascii", "replace")
    return f"{os.fstat(file).st_ino:x}"


def open_there(path: Path) -> io.BufferedReader:
    """A regular file of an output folder, to be read: that one, and not what a link of another's leads to.

    Who may write into OUT, or could once, put a link to results in a folder of the user's that he cannot read himself
    there: their text was in the next export. A link of the user's own, say to a larger disk, is followed where nobody
    else can write into the folder that it lies in.

    Raises:
        OSError: as `no_links`.
    """
    try:
        return io.BufferedReader(ReadFile(os.fspath(path), opener=no_links))
    except OSError as error:
        if error.errno != errno.ELOOP or not _is_own_link(path):
            raise
    return open_regular(path)


def _is_own_link(path: Path) -> bool:
    with hold(path.parent) as folder:
        link, mine = os.lstat(folder.path / path.name), {os.geteuid(), 0}
        if not {link.st_uid, folder.status.st_uid} <= mine:
            mine |= owner_of_new(folder.path)
        return {link.st_uid, folder.status.st_uid} <= mine and not folder.status.st_mode & 0o022
