"""Folders and files that another user may have prepared: nothing is written through a link, or into his folder."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from detector.cache import others_write
from detector.errors import read_bounded
from detector.images.regular_file import opened
from producer.errors import ProducerError
from producer.folder_tree import entries_below
from producer.held_folder import SHARED_OUT, HeldFolder, as_named, hold, hold_itself, is_shared, ours_to_write
from worker.storage.spool import want_of_the_machine


class OthersFolderError(ProducerError):
    """A folder that results would go to is another user's. The message names it and the remedy."""


def no_links(path: str, flags: int) -> int:
    """Opener for `open`: who put a link where our lock or log goes had us empty a file of ours, or write into it.

    Where there was a pipe, `open` never came back.

    Raises:
        OSError: with the path: ELOOP, it is a link; EINVAL, it is no regular file.
    """
    try:
        return opened(path, flags | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "is a link, which is not followed here: remove it", path) from None
        raise


def no_links_ours(path: str, flags: int) -> int:
    """As `no_links`, and what it makes is nobody else's to write, as by `ours_to_write`.

    Raises:
        OSError: as `no_links`.
    """
    with suppress(OSError):
        os.close(ours_to_write(path, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
    return no_links(path, flags)


def owner_of_new(folder: Path) -> set[int]:
    """Whose files those are that we make in a folder: not ours, by number, on NFS that squashes or CIFS with uid=.

    Empty where we may make none.

    Raises:
        OSError: none can be made now: no file, no room.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as new:
            return {os.fstat(new.fileno()).st_uid}
    except OSError as error:
        if want_of_the_machine(error) is not None:
            raise
        return set()


def check_own(folder: Path, *, may_be_link: bool = False) -> None:
    """Refuse a folder that another user made, as `hold_own` does; one that is not there is fine.

    Raises:
        OthersFolderError: it is.
    """
    with suppress(FileNotFoundError):
        hold_own(folder, may_be_link=may_be_link).close()


def hold_own(folder: Path, *, may_be_link: bool = False) -> HeldFolder:
    """A folder, held open, and looked at after that: one that another user made is refused.

    Whatever is written there, he may have put a link in its place: records were appended to a ~/.bashrc, a lock emptied
    a key, and the folder beside a link was removed with all in it. Root's folders are taken: root needs no such trick.
    So are those of a share that gives all we make to their owner.

    Args:
        folder: one that is there.
        may_be_link: a link of this user is fine, too: he chose where it leads.

    Raises:
        OthersFolderError: it is another's, or a link, or no folder.
        OSError: it is not there.
    """
    try:
        held, itself = hold_itself(folder)
    except NotADirectoryError:
        raise _no_folder(folder) from None
    try:
        strangers = {itself.st_uid, held.status.st_uid} - {os.geteuid(), 0}
        if strangers and strangers - owner_of_new(held.path):
            raise _others(held.named)
        if not may_be_link and stat.S_ISLNK(itself.st_mode):
            raise _no_folder(folder)
    except BaseException:
        held.close()
        raise
    return held


def hold_out(folder: Path, *, only_read: bool = False) -> HeldFolder:
    """An output folder, or a link of this user's to it, held open, and nobody else's to write into.

    Who may write there says by lists and requests what is read, by renaming what is removed, and at any moment: each
    such way was mended, and the next reader found another. So the folder is asked for, once, as ssh does of `~/.ssh`.

    Args:
        folder: one that is there.
        only_read: another's folder is fine, too, where results are read and no pictures.

    Raises:
        OthersFolderError: it is another's, or others can write into it, and `SHARED_OUT` does not say that they may.
        OSError: it is not there.
    """
    held = hold(folder) if only_read else hold_own(folder, may_be_link=True)
    try:
        ours = held.status.st_uid in (os.geteuid(), 0)
        if ours and not is_shared() and others_write(held.path, held.status) and _knows_modes(held):
            raise OthersFolderError(
                f"others can write into {held.named}, and so choose what is read, written and removed in your name: "
                "name a new folder; or, where you trust all who could write here, `chmod -R go-w` it, or set "
                f"{SHARED_OUT}=1"
            )
    except BaseException:
        held.close()
        raise
    return held


def _knows_modes(folder: HeldFolder) -> bool:
    """Whether the disk keeps what is made for us alone from others; vfat and some shares show 777 of all."""
    try:
        with tempfile.TemporaryFile(dir=folder.path) as new:  # 0600; asked by its descriptor, whoever renames it
            return not os.fstat(new.fileno()).st_mode & 0o022
    except OSError:
        return True


def own_below(folder: HeldFolder, name: str, mode: int | None = None) -> HeldFolder:
    """A folder in one that is held, as `HeldFolder.below` opens it; another user's, and a link, is refused.

    Raises:
        OthersFolderError: it is.
        OSError: it is not there, and is not to be made.
    """
    try:
        held = folder.below(name, mode)
    except OSError as error:
        if error.errno == errno.ENOTDIR:
            raise _no_folder(folder.named / name) from None
        raise
    try:
        if held.status.st_uid not in (os.geteuid(), 0) and held.status.st_uid not in owner_of_new(held.path):
            raise _others(held.named)
    except BaseException:
        held.close()
        raise
    return held


def keep_from_others(folder: HeldFolder) -> bool:
    """From now on nobody else writes into a folder of ours, as far as its disk knows of such things.

    A group's folder, or `chmod -R g+w`, had others put a link where a log or a lock was to be. Whatever the group: its
    bits are also the mask of an ACL (`setfacl -m u:bob:rwX`), and nobody can tell who has a group as his primary one.

    Returns:
        Whether others could until now. What lies in it may be of them, and folders in it open to them still.
    """
    status = folder.status
    if status.st_uid != os.geteuid() or not status.st_mode & 0o022:
        return False
    with suppress(OSError):
        folder.path.chmod(stat.S_IMODE(status.st_mode) & ~0o022)
    return not folder.status.st_mode & 0o022


def keep_tree_from_others(folder: HeldFolder) -> None:
    """Have a folder of ours, and all folders below, be nobody else's to write from now on, and hold no links.

    A folder is taken back before it is listed: after that nobody can lay anything in it any more, so that names of what
    lies there are safe for as long as nobody opens it again.

    Raises:
        OthersFolderError: there is a link, a pipe, a socket or a device in it, or a folder of another user, or what
            cannot be listed. Root's own, as `lost+found`, are passed over where they cannot.
    """
    keep_from_others(folder)
    trusted = {os.geteuid(), 0}
    waiting = [(os.fspath(folder.path), folder.status.st_uid)]
    while waiting:
        place, owner = waiting.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        with suppress(FileNotFoundError):  # a process of ours that was killed ends with what it had
                            waiting.append((entry.path, _taken_back(entry, trusted)))
                    else:
                        _check_kind(entry)
        except FileNotFoundError:
            continue
        except OSError as error:
            if isinstance(error, PermissionError) and owner == 0:
                continue
            raise _not_listed(error) from None


def _taken_back(entry: os.DirEntry[str], trusted: set[int]) -> int:
    """Take a folder from others, in one that is nobody else's to write. Returns who owns it; `trusted` may grow."""
    status = entry.stat(follow_symlinks=False)
    if status.st_uid not in trusted:
        made = owner_of_new(Path(entry.path))
        if status.st_uid not in made:
            raise _others(Path(as_named(entry.path)))
        trusted |= made
    if status.st_uid == os.geteuid() and status.st_mode & 0o022:
        with suppress(OSError):  # a disk that knows no modes
            Path(entry.path).chmod(stat.S_IMODE(status.st_mode) & ~0o022)
    return status.st_uid


def is_open_to_others(status: os.stat_result, above: os.stat_result) -> bool:
    """Whether others can write to what lies in a folder of ours that is kept from them; the group's bits as there.

    Args:
        status: of the file or folder. A file counts where its folder lets others in: umask 002 makes 664 in one of 700.
            A folder always does: nothing of ours makes one that others may write into, and who had it open still can.
        above: of the folder, after `keep_from_others`. On a disk that knows no modes all has 777, and nothing counts.
    """
    if above.st_mode & 0o022 or stat.S_ISLNK(status.st_mode) or not status.st_mode & 0o022:
        return False
    return stat.S_ISDIR(status.st_mode) or bool(above.st_mode & 0o011)


def _others(folder: Path) -> OthersFolderError:
    return OthersFolderError(f"{folder} is another user's folder: name one of your own, or a new one inside it")


def _no_folder(folder: Path) -> OthersFolderError:
    return OthersFolderError(f"{folder} is a link, or no folder: remove it, or name another output folder")


def refuse_links(folder: Path) -> None:
    """Refuse a folder that is another's (`check_own`), or holds what we make none of: links, FIFOs, devices, sockets.

    Unpacked from a stranger's archive they are one's own by their owner: through one a log was written to a ~/.profile.

    Raises:
        OthersFolderError: it does. One that is not there is fine.
    """
    check_own(folder)
    try:
        for entry in entries_below(folder, strict=True):
            if not entry.is_dir(follow_symlinks=False):
                _check_kind(entry)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not folder.exists():
            return
        raise _not_listed(error) from None


def _check_kind(entry: os.DirEntry[str]) -> None:
    if entry.is_symlink():
        raise OthersFolderError(f"{as_named(entry.path)} is a link: remove it, or name another output folder")
    if not entry.is_file(follow_symlinks=False):
        raise OthersFolderError(f"{as_named(entry.path)} is no file: remove it, or name another output folder")


def _not_listed(error: OSError) -> OthersFolderError | OSError:
    if want_of_the_machine(error) is not None:  # it says nothing of the folder
        return error
    where = f"{as_named(str(error.filename))} cannot be listed ({error.strerror})"
    return OthersFolderError(f"{where}: remove it, or name another output folder")


MOST_SMALL_BYTES = 16 * 2**20
"""Of a job's own small files, whose largest lists the paths of a request."""


def read_small(path: Path) -> bytes:
    """A small file of a job's folder, perhaps of somebody: no FIFO that nobody writes to, no 6 GB of zeros, no link.

    Raises:
        OSError: there is none, it is a link or no regular file, or larger than 16 MiB.
    """
    return read_whose(path)[0]


def read_whose(path: Path) -> tuple[bytes, os.stat_result]:
    """As `read_small`, and the status of the file that was read."""
    with open(path, "rb", opener=no_links) as file:
        return read_bounded(file, MOST_SMALL_BYTES), os.fstat(file.fileno())
