"""Opens files that others may replace at any moment: what is no regular file is refused, and never waited for."""

from __future__ import annotations

import errno
import io
import os
import stat
import time
from functools import partial
from pathlib import Path, PosixPath
from typing import Any, BinaryIO

LEASE_S, POLL_S = 1.0, 0.02
"""How long a file is waited for that its file server has to give back first (a lease, as Samba takes them)."""


class Patience:
    """What one who opens many files waits for leases in all: who holds 20,000 costs a scan no 20,000 seconds.

    Attributes:
        left_s: seconds.
    """

    def __init__(self, left_s: float) -> None:
        """So long."""
        self.left_s = left_s


class NotRegularError(OSError):
    """A pipe, socket, device or folder. ``strerror`` says so."""

    def __init__(self, path: str) -> None:
        """Name it."""
        super().__init__(errno.EINVAL, "not a regular file", path)


def regular(path: str, flags: int, patience: Patience | None = None) -> int:
    """Opener for `open`, of regular files only.

    To look first and open then is no use: where a pipe took the file's place between, `open` never came back, nor did
    a scan, the page's worker or the service. What is looked at here is what was opened.

    Raises:
        NotRegularError: it is something else.
        OSError: it cannot be opened.
    """
    if not stat.S_ISREG(Path(path).stat().st_mode):  # opening a device may do something to it
        raise NotRegularError(path)
    return opened(path, flags, patience)


def opened(path: str, flags: int, patience: Patience | None = None) -> int:
    """Opens a file without waiting for who is at a pipe's other end, and looks at what was opened.

    Args:
        path: of the file.
        flags: as `os.open` has them.
        patience: what is left to wait for leases; None: `LEASE_S`.

    Raises:
        NotRegularError: it is no regular file.
        BlockingIOError: another program holds it, and does not give it back.
        OSError: it cannot be opened.
    """
    try:
        descriptor = _given_back(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, patience or Patience(LEASE_S))
    except OSError as error:
        if error.errno == errno.ENXIO:  # a pipe that nobody reads, a socket
            raise NotRegularError(path) from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotRegularError(path)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _given_back(path: str, flags: int, patience: Patience) -> int:
    wait_s, began = min(LEASE_S, patience.left_s), time.monotonic()
    while True:
        try:
            return os.open(path, flags, 0o666)
        except BlockingIOError:
            if time.monotonic() - began >= wait_s:
                patience.left_s -= wait_s
                raise
            time.sleep(POLL_S)


Identity = tuple[int, int]
"""Of a file: device and inode."""


class SeenPath(PosixPath):
    """A path whose file was looked at: `open_regular` opens that file, and none that has taken its place since.

    Attributes:
        identity: of that file; None: any.
    """

    identity: Identity | None = None

    @classmethod
    def to(cls, path: str | Path, identity: Identity | None) -> SeenPath:
        """The path to the file."""
        seen = cls(path)
        seen.identity = identity
        return seen


def identity_of(file: BinaryIO) -> Identity:
    """Of an open file."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino


def facts_of(status: os.stat_result) -> tuple[int, ...]:
    """What stays the same while a file does. Another in its place may have its size and time: reproducible archives."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def seen_as(path: Path) -> Identity | None:
    """What a process that is told the path's name must find there; None: any file."""
    return path.identity if isinstance(path, SeenPath) else None


class ReadError(OSError):
    """What a library says of a read of its own that failed, of no file by its name."""


class FewReads:
    """A file as who looks for its header reads it: so many times and no more.

    Pillow and our own parsers go on from byte to byte where nothing, or a hole, lies: 40 MiB of zeros behind 12 bytes
    took 1 to 15 s, and holes of 2 TiB cost whoever made the file nothing.
    """

    most = 1_000_000
    """Where the second picture of a GIF is looked for, the first may have 127 MB; other headers have some dozens."""

    most_bytes = 512 << 20
    """Of what is read whole; as much as comes from a bucket."""

    def __init__(self, file: BinaryIO) -> None:
        """Of an open file."""
        self._file = file
        self._left = self.most

    def read(self, size: int = -1) -> bytes:
        """As of the file.

        Raises:
            ValueError: once too often, or too much at once.
        """
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"it does not end within {self.most:,} reads")
        if size < 0:  # AVIF's. Looked at first: a read of so many takes the memory before it knows how many there are
            place = self._file.tell()
            left = self._file.seek(0, os.SEEK_END) - place
            if left > self.most_bytes:
                raise ValueError(f"it does not end within {self.most_bytes >> 20} MiB")
            self._file.seek(place)
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        """All else is the file's."""
        return getattr(self._file, name)


class ReadFile(io.FileIO):
    """A file that remembers the first error that reading it met, whoever read it and whatever he made of it.

    A bad sector or a network folder that went away for a moment is no damage of the file. pdfium, Pillow, pypdf and
    tarfile go on as if the file ended there: the page was blank, and "ok".

    Attributes:
        failed: that error.
    """

    failed: OSError | None = None

    def readinto(self, buffer: Any) -> int:
        """As `io.FileIO.readinto`."""
        try:
            return super().readinto(buffer)
        except OSError as error:
            self.failed = self.failed or error
            raise

    def read(self, size: int | None = -1) -> bytes:
        """As `io.FileIO.read`."""
        try:
            return super().read(-1 if size is None else size)
        except OSError as error:
            self.failed = self.failed or error
            raise

    def readall(self) -> bytes:
        """As `io.FileIO.readall`."""
        try:
            return super().readall()
        except OSError as error:
            self.failed = self.failed or error
            raise


def read_error(file: object) -> OSError | None:
    """The first error that reading a file of `open_regular` met; None: none, or it is another's file."""
    raw = getattr(file, "raw", file)
    return raw.failed if isinstance(raw, ReadFile) else None


def raise_read_error(file: object) -> None:
    """Raises what `read_error` has: for whoever gave the file to a library that goes on over it.

    Raises:
        OSError: a read met it.
    """
    error = read_error(file)
    if error is not None:
        raise error


def open_regular(path: Path, patience: Patience | None = None) -> io.BufferedReader:
    """A regular file, to be read; at a `SeenPath` that one.

    Args:
        path: of the file.
        patience: as for `opened`.

    Returns:
        A buffered `ReadFile`.

    Raises:
        OSError: as `regular`; or it is another file.
    """
    file: io.BufferedReader = io.BufferedReader(ReadFile(os.fspath(path), opener=partial(regular, patience=patience)))
    close_another(file, path)
    return file


def close_another(file: BinaryIO, path: Path) -> None:
    """Closes what was opened at a `SeenPath` if it is not that file.

    Raises:
        OSError: it is another one.
    """
    wanted = seen_as(path)
    if wanted is not None and identity_of(file) != wanted:
        file.close()
        raise OSError(errno.EINVAL, "another file has taken its place", str(path))
