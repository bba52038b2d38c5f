"""Files that are there whole or not at all, whatever is killed meanwhile: the one atomic writer of the packages."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NAME_KEPT = 50  # characters of the file's name in that of the unfinished one: file systems take 255 bytes in all

_OF_A_DISK = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ESTALE)


@contextmanager
def atomic_write(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """A name to write to, which becomes ``path`` when the block ends well; else what was there before stays.

    Example::

        with atomic_write(out / "job.json") as unfinished:
            unfinished.write_text(text, encoding="utf-8")

    The unfinished file is hidden, lies in the same folder and ends in ``.part``; only a kill -9 leaves it behind.
    Threads and processes may write the same path at once: the last to finish wins, and no reader sees half a file.

    Args:
        path: the file; its folder must be there. A symbolic link is replaced, not followed.
        sync: the content is on the disk before the name changes, and the name before the block ends: a power cut, too,
            leaves the old file or the new one. Costs an fsync, 1 to 20 ms; leave it out where the file can be made
            again, such as pictures.

    Yields:
        The unfinished file's path. It must be written, and closed, inside the block.

    Raises:
        FileExistsError: it is a device, a pipe or a socket, or a link to one. Root's would be gone for all programs.
        OSError: the folder is not there, or full.
    """
    _refuse_device(path)
    # Nobody else can know it before: in a folder that others may write to, one could put a link there.
    unfinished = path.with_name(f".{path.name[:_NAME_KEPT]}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with named(path):
            yield unfinished
            if sync:
                sync_to_disk(unfinished)
        unfinished.replace(path)
        if sync:
            with suppress(OSError):  # some network file systems cannot sync a folder; the file itself is safe
                sync_to_disk(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """What write, fsync and close say in the block names this file: they know a descriptor only.

    Raises:
        OSError: of the block, with a name.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _OF_A_DISK and error.filename is None:
            error.filename = str(path)
        raise


def _refuse_device(path: Path) -> None:
    try:
        # /dev/stdout leads to /proc/self/fd/1, which may be a regular file.
        odd = path.is_symlink() and path.readlink().parts[:2] in (("/", "proc"), ("/", "dev"))
        odd = odd or not (stat.S_ISREG(mode := path.stat().st_mode) or stat.S_ISDIR(mode))
    except OSError:  # not there; or whoever writes will say what is wrong
        return
    if odd:
        raise FileExistsError(errno.EEXIST, "is a device or a pipe; name a file", str(path))


def sync_to_disk(path: Path) -> None:
    """Have what was written to a file, or the names in a folder, on the disk.

    Raises:
        OSError: with the file's name. A network file system says here that it is full.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # who may write beside it may have put a pipe in its place
    try:
        with named(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
