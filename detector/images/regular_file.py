"""Opens files that others may replace at any moment: what is no regular file is refused, and never waited for."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path
from typing import BinaryIO

LEASE_S, POLL_S = 1.0, 0.02
"""How long a file is waited for that its file server has to give back first (a lease, as Samba takes them)."""


class NotRegularError(OSError):
    """A pipe, socket, device or folder. ``strerror`` says so."""

    def __init__(self, path: str) -> None:
        """Name it."""
        super().__init__(errno.EINVAL, "not a regular file", path)


def regular(path: str, flags: int) -> int:
    """Opener for `open`, of regular files only.

    To look first and open then is no use: where a pipe took the file's place between, `open` never came back, nor did
    a scan, the page's worker or the service. What is looked at here is what was opened.

    Raises:
        NotRegularError: it is something else.
        OSError: it cannot be opened.
    """
    if not stat.S_ISREG(Path(path).stat().st_mode):  # opening a device may do something to it
        raise NotRegularError(path)
    until = time.monotonic() + LEASE_S
    while True:
        try:
            descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
            break
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(POLL_S)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotRegularError(path)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_regular(path: Path) -> BinaryIO:
    """A regular file, to be read.

    Raises:
        OSError: as `regular`.
    """
    return open(path, "rb", opener=regular)
