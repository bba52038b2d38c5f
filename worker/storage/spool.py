"""Writing copies to this machine's spool, and telling the machine's own faults from those of an image.

A full disk says nothing about the page that met it: another machine, or this one an hour later, would have done it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.errors import WorkerError

# Of what is read, not only written: a dying disk or a network folder that went away.
_OF_THE_MACHINE = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE)
)


class MachineFault(WorkerError, OSError):
    """This machine could not do what any healthy one can. ``filename`` and ``strerror`` say what."""


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
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        raise MachineFault(error.errno, error.strerror, str(path)) from error


def write_chunks(chunks: Iterable[bytes], target: Path) -> int:
    """Writes a file piece by piece. Returns its bytes.

    Raises:
        MachineFault: it cannot be written. What goes wrong in making the chunks passes through as it is.
    """
    size = 0
    with machine_faults(target):
        file = target.open("wb", buffering=0)  # chunks are large; and closing has nothing left that could fail
    with file:
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                with machine_faults(target):
                    rest = rest[file.write(rest) :]
            size += len(chunk)
    return size
