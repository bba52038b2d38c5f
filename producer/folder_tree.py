"""Folders in folders, however deep: a stranger's archive may hold a thousand.

`shutil.rmtree` (before Python 3.13), `os.walk` (before 3.12) and `Path.rglob` (before 3.13) call themselves for each
folder inside, and end in a RecursionError at about a thousand.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from detector.atomic import named

_NAME_KEPT = 50  # characters of a folder's name in that of the unfinished one, as in detector.atomic


def entries_below(folder: Path, *, strict: bool = False) -> Iterator[os.DirEntry[str]]:
    """All files, folders and links below a folder, in no order; links are not followed.

    Args:
        folder: where to look.
        strict: whoever looks must have seen all: a folder of mode 0300 can be written into, and not be listed.

    Raises:
        OSError: if strict, a folder cannot be listed, or has a path of more than the system's 4,096 bytes. Else it is
            passed over.
    """
    waiting = [os.fspath(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    yield entry
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            if strict:
                raise


def remove_tree(folder: Path) -> None:
    """Remove a folder with all in it, as far as that can be done; one that is not there is fine."""
    with suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):  # too deep, or with more folders open than one process may have
        subprocess.run(("rm", "-rf", "--", folder), check=False, stderr=subprocess.DEVNULL)


@contextmanager
def new_folder(target: Path, *, replace: bool) -> Iterator[Path]:
    """A folder to fill, which becomes ``target`` when the block ends well.

    Args:
        target: where it is to be.
        replace: what is there is ours, and so is what a kill -9 left of it.

    Raises:
        FileExistsError: the target is there and not empty, and not to be replaced.
        OSError: it cannot be written, or was filled, or removed, meanwhile.
    """
    if target.exists() and not replace and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(17, "is there already and not empty; choose another folder", str(target))
    short = target.name[:_NAME_KEPT]
    if replace:
        for left in target.parent.glob(f".{short}.*.part"):
            with suppress(OSError), _held(left):  # not that of another process that fills it
                remove_tree(left)
    # A name that nobody else has: NAME.part may be a folder of the user's own.
    part = target.with_name(f".{short}.{os.getpid()}-{secrets.token_hex(4)}.part")
    part.mkdir(parents=True)
    try:
        with _held(part) as made:
            with named(target):
                yield part
            if not os.path.samestat(made, part.stat()):  # files are made with the folders that they lie in
                raise FileNotFoundError(2, "was removed while it was filled", str(part))
            if replace or target.is_symlink():
                remove_tree(target)
            part.replace(target)
    except BaseException:
        remove_tree(part)
        raise


@contextmanager
def _held(folder: Path) -> Iterator[os.stat_result]:
    """No other process holds the folder in the block.

    Raises:
        OSError: another does, or it is not there.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            pass
        yield os.fstat(descriptor)
    finally:
        os.close(descriptor)
