"""Folders that appear when they are complete, beside what others may write: what is removed is asked by descriptor.

Who may write beside them can exchange a name at any moment, with a folder of his, or of the user's, in its place.
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
from producer.held_folder import HeldFolder, mode_below
from producer.no_links import owner_of_new

_NAME_KEPT = 50  # characters of a folder's name in that of the unfinished one, as in detector.atomic


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
        FileExistsError: the target is there and not empty, and not to be replaced; or what was made became another's.
        OSError: it cannot be written, or was filled, or removed, meanwhile.
    """
    if target.exists() and not replace and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(17, "is there already and not empty; choose another folder", str(target))
    short = target.name[:_NAME_KEPT]
    if replace:
        for left in target.parent.glob(f".{short}.*.part"):
            with suppress(OSError), _held(left) as folder:  # not that of another process that fills it
                _check_made(folder)
                _remove_ours(left, folder, mark)
    # A name that nobody else has: NAME.part may be a folder of the user's own.
    part = target.with_name(f".{short}.{os.getpid()}-{secrets.token_hex(4)}.part")
    part.mkdir(parents=True)
    try:
        with _held(part) as folder:
            _check_made(folder)
            mode = stat.S_IMODE(folder.status.st_mode) & (~0o777 | mode_below())
            with suppress(OSError):  # a disk that knows no modes
                # Where a group may write, one of it put a link to our pictures into it. The group itself is inherited.
                os.fchmod(folder.descriptor, mode & ~0o077)
            if any(folder.path.iterdir()):
                raise FileExistsError(17, "was filled by somebody else", str(part))
            try:
                if mark:
                    (folder.path / mark).touch()
                with named(target):
                    yield folder.path
                _put_in_place(part, folder, target, replace=replace, mark=mark)
            except BaseException:
                if not _is_at(target, folder):
                    _empty(folder)
                raise
            with suppress(OSError):
                os.fchmod(folder.descriptor, mode)
    except BaseException:
        with suppress(OSError):  # whatever has the name by now: an empty folder could anybody beside it remove himself
            part.rmdir()
        raise


def _put_in_place(part: Path, folder: HeldFolder, target: Path, *, replace: bool, mark: str) -> None:
    if not _is_at(part, folder):
        raise FileNotFoundError(2, "was removed while it was filled", str(part))
    if target.is_symlink():
        target.unlink()
    elif target.is_dir() and replace:
        with _held(target, lock=False) as before:
            _remove_ours(target, before, mark)
    elif replace:
        target.unlink(missing_ok=True)
    part.replace(target)


def _is_at(path: Path, folder: HeldFolder) -> bool:
    return os.path.lexists(path) and os.path.samestat(folder.status, path.lstat())


def _check_made(folder: HeldFolder) -> None:
    """Refuse what we cannot have made: another's, in its place before it was opened, was filled through his links.

    Root's, too: a folder of root's that a group may write into is another's to fill.
    """
    owner = folder.status.st_uid
    if owner != os.geteuid() and owner not in owner_of_new(folder.path):
        raise FileExistsError(17, "is another user's folder", str(folder.named))


def _remove_ours(target: Path, folder: HeldFolder, mark: str) -> None:
    """Remove a folder that we made, and not one of the user's that somebody gave its name.

    Raises:
        FileExistsError: it has no file of the mark's name, and is not empty; or there is what `_close` refuses.
    """
    if mark and not (folder.path / mark).is_file() and any(folder.path.iterdir()):
        raise FileExistsError(17, f"is no folder of ours (it has no {mark}); move it away", str(folder.named))
    _close(folder)
    _empty(folder)
    target.rmdir()


def _close(folder: HeldFolder) -> None:
    """Take all folders in one that we made from others, and refuse such as who may write there could not empty himself.

    He could move a folder of the user's into it, to have us remove what lies below. Of what we make in a folder all
    folders let the same people in; they have a group of ours, where we took away that of a group that we are not in.
    None is sticky, or may be written into and not be entered (0760): such are moved, also to our name, by who can
    remove nothing in them.

    Raises:
        FileExistsError: there is one; all is as it was.
    """
    made, chosen = {os.geteuid()}, folder.status.st_gid in {os.getegid(), *os.getgroups()}
    taken: list[tuple[str, int]] = []
    waiting: list[tuple[str, tuple[int, int, bytes]]] = [(f"{folder.path}/.", (0, 0, b""))]
    try:
        while waiting:
            place, above = waiting.pop()
            status = os.lstat(place)
            if status.st_uid not in made:
                made |= owner_of_new(folder.path)
            let_in = (status.st_mode & _WHO_REMOVES, chosen * status.st_gid, _acl(place))
            odd = status.st_mode & (stat.S_ISVTX | 0o022 & ~(status.st_mode << 1))
            if status.st_uid not in made or odd or (above[0] & 0o022 and let_in != above):
                raise FileExistsError(17, "is closed to others who may write above it; move it away", place)
            if status.st_mode & 0o022:
                taken.append((place, stat.S_IMODE(status.st_mode)))
                with suppress(OSError):  # a disk that knows no modes
                    Path(place).chmod(stat.S_IMODE(status.st_mode) & ~0o077)
            with os.scandir(place) as entries:  # nobody lays anything in it any more
                waiting += [(entry.path, let_in) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except BaseException:
        for place, mode in reversed(taken):
            with suppress(OSError):
                Path(place).chmod(mode)
        raise


_WHO_REMOVES = 0o033  # who may write into a folder and enter it; the group's bits and all others'


def _acl(place: str) -> bytes:
    try:
        return os.getxattr(place, "system.posix_acl_access", follow_symlinks=False)
    except OSError:  # none, or a disk that knows none
        return b""


def _empty(folder: HeldFolder) -> None:
    """Remove all in it, whatever its name leads to by now."""
    with suppress(RecursionError):
        shutil.rmtree(".", ignore_errors=True, dir_fd=folder.descriptor)
    if any(folder.path.iterdir()):  # too deep, or with more folders open than one process may have
        command = ("find", ".", "-mindepth", "1", "-delete")
        subprocess.run(command, cwd=folder.path, check=False, stderr=subprocess.DEVNULL)


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
