"""Folders that are held open: what lies in them is reached through a descriptor, whatever their names lead to by now.

Who may write into the folder that one lies in can rename it, and put a link to any other in its place, between a look
at it and a write: overlays went over the originals of whoever ran the job, and Valkey's log into his ~/.bashrc.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from types import TracebackType

SHARED_OUT = "OCRFLEET_SHARED_OUT"
"""1: who may write into an output folder is trusted with what its user may read, write and remove."""

PRIVATE = ".ocrfleet"
_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_REACHED = re.compile(r"/proc/\d+/fd/\d+")
_NAMES: dict[str, str] = {}  # of what is held now


def is_shared() -> bool:
    """Whether this user trusts all who can write into his output folders."""
    return os.environ.get(SHARED_OUT, "") == "1"


def mode_below() -> int:
    """Of folders in an output folder, less the umask: nobody else's to write, as the output folder itself.

    Under the umask 002 others could move a folder of this user's into an export, and the next one removed it.
    """
    return 0o777 if is_shared() else 0o755


def ours_to_write(path: str, flags: int) -> int:
    """Opener for `open`: whatever the umask, nobody else writes into the file.

    A list says what is opened later, and results are what a job is for: under the umask 002 a group wrote into them.
    """
    return os.open(path, flags, 0o644)


class HeldFolder:
    """A folder that is held open. A context manager: at the end of the block it is let go.

    Errors that leave the block call the folder by its name.

    Attributes:
        descriptor: of the folder (O_PATH: it needs no right to list it).
        named: its name, for people.
        path: leads to it, in this process and in those that it starts; only what lies in it by itself is safe, folders
            in it are opened by `below`. The name where there is no /proc.
    """

    def __init__(self, descriptor: int, named: Path) -> None:
        """Take over the descriptor."""
        self.descriptor = descriptor
        self.named = named = Path(as_named(str(named)))
        path = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        self._key = str(path)
        self.path = path if path.exists() else named
        _NAMES[self._key] = str(named)

    @property
    def status(self) -> os.stat_result:
        """Of the folder itself."""
        return os.fstat(self.descriptor)

    def below(self, name: str, mode: int | None = None) -> HeldFolder:
        """A folder in it.

        Args:
            name: without a slash.
            mode: make it, if it is not there, with this mode less the umask; None: it must be there.

        Raises:
            OSError: with its whole name; ENOTDIR, it is a link or a file.
        """
        named = self.named / name
        try:
            if mode is not None:
                with suppress(FileExistsError):  # a link that leads nowhere, too
                    os.mkdir(name, mode, dir_fd=self.descriptor)
            return HeldFolder(os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=self.descriptor), named)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(named)) from None

    @contextmanager
    def made_below(self, relative: PurePosixPath) -> Iterator[HeldFolder]:
        """A folder in folders in it, all made where they are not there; no link is followed.

        Raises:
            OSError: as `below`.
        """
        with ExitStack() as stack:
            folder = self
            for part in relative.parts:
                folder = stack.enter_context(folder.below(part, mode_below()))
            yield folder

    def close(self) -> None:
        """Let go."""
        _NAMES.pop(self._key, None)
        os.close(self.descriptor)

    def __enter__(self) -> HeldFolder:
        """It is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let go."""
        if error is not None:
            _name_again(error)
        self.close()


def hold(folder: Path) -> HeldFolder:
    """The folder that a name leads to, also through links; of a `HeldFolder.path` that one.

    Raises:
        OSError: it is not there, or no folder.
    """
    if named := _NAMES.get(str(folder)):
        return HeldFolder(os.dup(int(folder.name)), Path(named))
    return HeldFolder(os.open(folder, _FLAGS), folder)


def hold_itself(folder: Path) -> tuple[HeldFolder, os.stat_result]:
    """As `hold`, and the link that the name may be, of which was followed what it said when it was looked at.

    Returns:
        The folder, and the status of the link; of the folder where it is none.
    """
    if str(folder) in _NAMES:
        held = hold(folder)
        return held, held.status
    itself = os.open(folder, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(itself)
    if stat.S_ISDIR(status.st_mode):
        return HeldFolder(itself, folder), status
    try:
        if not stat.S_ISLNK(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        target = folder.parent / os.readlink("", dir_fd=itself)
    finally:
        os.close(itself)
    return HeldFolder(os.open(target, _FLAGS), folder), status


def as_named(text: str) -> str:
    """The text, with folders that are held called by their names: `/proc/123/fd/7` tells nobody anything."""
    return _REACHED.sub(lambda match: _NAMES.get(match[0], match[0]), text)


def to_start_in(folder: Path) -> str:
    """A folder for a process to start in: its own copy of the descriptor, where ours may be hidden (suid, prctl)."""
    return str(folder).replace(f"/proc/{os.getpid()}/fd/", "/proc/self/fd/")


def _name_again(error: BaseException) -> None:
    if isinstance(error, OSError):
        for name in ("filename", "filename2"):
            if isinstance(said := getattr(error, name), str | Path):
                setattr(error, name, as_named(str(said)))
    error.args = tuple(as_named(said) if isinstance(said, str) else said for said in error.args)
