"""Folders in folders, however deep: a stranger's archive may hold a thousand.

`shutil.rmtree` (before Python 3.13), `os.walk` (before 3.12) and `Path.rglob` (before 3.13) call themselves for each
folder inside, and end in a RecursionError at about a thousand.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from detector.atomic import named
from producer.held_folder import HeldFolder

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
def new_folder(target: Path, *, replace: bool, mark: str = "") -> Iterator[Path]:
    """A folder to fill, which becomes ``target`` when the block ends well.

    What is yielded leads to the folder as it was made, in which nobody else can write until then.

    Args:
        target: where it is to be.
        replace: what is there is ours, and so is what a kill -9 left of it.
        mark: a file that each folder of this kind has; one without it is not replaced. Who may write beside them could
            rename a folder of the user's, which he could not empty himself, and have us remove it.

    Raises:
        FileExistsError: the target is there and not empty, and not to be replaced.
        OSError: it cannot be written, or was filled, or removed, meanwhile.
    """
    if target.exists() and not replace and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(17, "is there already and not empty; choose another folder", str(target))
    short = target.name[:_NAME_KEPT]
    if replace:
        for left in target.parent.glob(f".{short}.*.part"):
            with suppress(OSError), _held(left) as folder:  # not that of another process that fills it
                _remove_ours(left, folder, mark)
    # A name that nobody else has: NAME.part may be a folder of the user's own.
    part = target.with_name(f".{short}.{os.getpid()}-{secrets.token_hex(4)}.part")
    part.mkdir(parents=True)
    try:
        with _held(part) as folder:
            mode = stat.S_IMODE(folder.status.st_mode)
            with suppress(OSError):  # a disk that knows no modes
                # Where a group may write, one of it put a link to our pictures into it. The group itself is inherited.
                folder.path.chmod(mode & ~0o077)
            if any(folder.path.iterdir()):
                raise FileExistsError(17, "was filled by somebody else", str(part))
            if mark:
                (folder.path / mark).touch()
            with named(target):
                yield folder.path
            if not os.path.lexists(part) or not os.path.samestat(folder.status, part.lstat()):
                raise FileNotFoundError(2, "was removed while it was filled", str(part))
            with suppress(OSError):
                folder.path.chmod(mode)
            if target.is_symlink():
                target.unlink()
            elif target.is_dir() and replace:
                with _held(target, lock=False) as before:
                    _remove_ours(target, before, mark)
            elif replace:
                target.unlink(missing_ok=True)
            part.replace(target)
    except BaseException:
        remove_tree(part)
        raise


def _remove_ours(target: Path, folder: HeldFolder, mark: str) -> None:
    """Remove a folder that we made, and not one of the user's that somebody gave its name.

    Raises:
        FileExistsError: it has no file of the mark's name, and is not empty.
    """
    if mark and not (folder.path / mark).is_file() and any(folder.path.iterdir()):
        raise FileExistsError(17, f"is no folder of ours (it has no {mark}); move it away", str(folder.named))
    with suppress(RecursionError):
        shutil.rmtree(".", ignore_errors=True, dir_fd=folder.descriptor)  # all in it, whatever the name leads to by now
    if any(folder.path.iterdir()):  # too deep, or with more folders open than one process may have
        command = ("find", ".", "-mindepth", "1", "-delete")
        subprocess.run(command, cwd=folder.path, check=False, stderr=subprocess.DEVNULL)
    target.rmdir()


@contextmanager
def _held(folder: Path, *, lock: bool = True) -> Iterator[HeldFolder]:
    """No other process holds the folder in the block.

    Args:
        folder: to be held.
        lock: False: it may be held by others.

    Raises:
        OSError: another does, or it is not there, or is a link.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with HeldFolder(descriptor, folder) as held:
        try:
            if lock:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            pass
        yield held
