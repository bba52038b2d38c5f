"""Writing copies to this machine's spool, and telling the machine's own faults from those of an image.

A full disk says nothing about the page that met it: another machine, or this one an hour later, would have done it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from detector.cache import others_write
from detector.errors import ReadFailed, first_line
from worker.errors import WorkerError

SPOOL_PREFIX = "page-"
# The signature of the Cache Directory Tagging Specification (bford.info/cachedir): backup programs pass it over too.
MARKER = "CACHEDIR.TAG"
MARKER_TEXT = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n# ocrfleet: pages of running jobs; cleanup deletes old ones.\n"
)

# Of what is read, not only written: a dying disk or a network folder that went away.
_OF_THE_MACHINE = frozenset(
    (
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
        *(errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN),
        *(errno.ENETUNREACH, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.ESHUTDOWN, errno.ENODEV),
        *(getattr(errno, name, errno.EIO) for name in ("EREMOTEIO", "ENOMEDIUM", "ENOLINK", "EUCLEAN")),
    )
)


_SCARCE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC, errno.EDQUOT))
"""Of what a machine has too little of now: files, memory, room. None says anything of a file that is read."""


class MachineFault(WorkerError, OSError):
    """This machine could not do what any healthy one can. ``filename`` and ``strerror`` say what."""


class CutOff(ReadFailed):
    """What was sent of a page ended before its end. Of its server or the way there: this machine does what it can."""

    def __init__(self, uri: str, reason: str) -> None:
        """Say it in one line.

        Args:
            uri: of the page.
            reason: how it ended.
        """
        super().__init__(uri, OSError(errno.EIO, f"its transfer was cut off: {reason}"))


_NOT_OURS = "is not a folder of this user's; remove it, or set OCRFLEET_SPOOL_DIR to a place of your own"


class OthersSpoolError(WorkerError):
    """The spool is no folder of this user's; the message names it and the remedy."""


def open_spool(spool: Path) -> None:
    """Makes a spool, or checks that the one that is there is ours alone, and marks it as a folder to clean up.

    Args:
        spool: `Settings.spool`; the marker goes beside it.

    Raises:
        MachineFault: it cannot be made, or another user could read it or put pages into it.
    """
    _refuse_where_anybody_could_make_it(spool.parent.parent)
    make_private(spool.parent)
    make_private(spool)
    marker = spool.parent / MARKER
    with machine_faults(marker), suppress(FileExistsError), marker.open("xb") as file:
        file.write(MARKER_TEXT)


def refuse_others_spool(spool: Path) -> None:
    """For use before the first page, which would be tried three times to say it.

    Raises:
        OthersSpoolError: another user made the spool, as `sudo -E` does.
    """
    try:
        open_spool(spool)
    except MachineFault as error:
        # A full or read-only disk may be mended, and a worker that opens files where they lie has no need of a spool.
        if error.errno == errno.EPERM:
            raise OthersSpoolError(f"{error.filename}: {error.strerror}") from None


def is_our_spool(spool: Path) -> bool:
    """Whether `open_spool` made this folder and marked it: only there may cleanup delete anything."""
    try:
        _check_private(spool)
        with (spool.parent / MARKER).open("rb") as marker:
            return marker.read(len(MARKER_TEXT) + 1) == MARKER_TEXT
    except OSError:
        return False


def make_private(folder: Path) -> None:
    """Makes a folder that only this user may enter; one that is there must be ours, and is closed to others.

    Raises:
        MachineFault: it cannot be made, is a link, or belongs to another user.
    """
    with machine_faults(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(folder)


def _refuse_where_anybody_could_make_it(folder: Path) -> None:
    """The default without a home is /tmp/ocrfleet-UID: who had made that put his spool, and pages, in ours' place."""
    with machine_faults(folder):
        if folder.parent.is_dir() and others_write(folder.parent, folder.parent.stat()):
            folder.mkdir(mode=0o700, exist_ok=True)
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (os.geteuid(), 0):
                raise MachineFault(errno.EPERM, _NOT_OURS, str(folder))


def _check_private(folder: Path) -> None:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise MachineFault(errno.EPERM, _NOT_OURS, str(folder))
    if status.st_mode & 0o077:
        folder.chmod(0o700)


@contextmanager
def machine_faults(path: Path) -> Iterator[None]:
    """Turns whatever the operating system refuses in here into :class:`MachineFault` about ``path``.

    Raises:
        MachineFault: an OSError.
    """
    try:
        yield
    except MachineFault:
        raise
    except OSError as error:
        raise MachineFault(error.errno, error.strerror or str(error), str(path)) from error


def raise_machine_fault(error: BaseException, path: Path) -> None:
    """For use where errors are about to be blamed on an image.

    Args:
        error: what happened.
        path: what was being read.

    Raises:
        MachineFault: it was the machine.
    """
    if isinstance(error, MachineFault):
        raise error
    if isinstance(error, OSError) and is_of_the_machine(error):
        raise MachineFault(error.errno, error.strerror, str(path)) from error


def out_of_processes() -> MachineFault:
    """For where the system starts no further process or thread: as many as its limit there are now, not always."""
    return MachineFault(errno.EAGAIN, "no more of them may be started (`ulimit -u`, pids.max)", "processes, threads")


def is_being_installed(error: ImportError) -> MachineFault:
    """For where something of the program is not there: `pip install` has taken one version away, and not put the next.

    Such a page fails in a millisecond: a worker that met an update failed all that waited.
    """
    return MachineFault(errno.ENOENT, f"not all there, or being installed ({first_line(error)})", "ocrfleet")


def is_of_the_machine(error: OSError) -> bool:
    """Whether it says something of a disk or of the network, and nothing of a file."""
    return error.errno in _OF_THE_MACHINE


def want_of_the_machine(error: BaseException) -> MachineFault | None:
    """What this machine had too little of when this was raised, as a cause of it or of what was made of it.

    For where errors are about to end something for good. Not for what met a limit of its own, as the processes that
    open strangers' files have: a hostile file asks for as much memory as there may be.

    Args:
        error: of any class; one raised `from None` was made of nothing else.

    Returns:
        None: it was something else.
    """
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, MachineFault):
            return behind
        if isinstance(behind, MemoryError):
            return MachineFault(errno.ENOMEM, os.strerror(errno.ENOMEM), "memory")
        if isinstance(behind, OSError) and behind.errno in _SCARCE:
            return MachineFault(behind.errno, behind.strerror or str(behind), behind.filename)
        if isinstance(behind, RuntimeError) and "start new thread" in str(behind):
            return out_of_processes()
        behind = behind.__cause__ or (None if behind.__suppress_context__ else behind.__context__)
    return None


def write_chunks(chunks: Iterable[bytes], target: Path) -> int:
    """Writes a file piece by piece. Returns its bytes.

    Raises:
        MachineFault: it cannot be written. What goes wrong in making the chunks passes through as it is.
    """
    size = 0
    with machine_faults(target):
        # Never through a link that somebody put there. Unbuffered: chunks are large, and closing cannot fail.
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        file = os.fdopen(descriptor, "wb", buffering=0)
    with file:
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                with machine_faults(target):
                    rest = rest[file.write(rest) :]
            size += len(chunk)
    return size
