"""Where a page's bytes come from: a path, bytes, or a file object, as one seekable binary file with a name."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from detector.errors import ImageError, NotFound, ReadFailed, show
from detector.images.header import PARSE_ERRORS
from detector.images.regular_file import NotRegularError, ReadError, ReadFile, open_regular

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""A path, a file's whole content, or a file object opened for binary reading."""

MOST_READ_BYTES = 256 << 20
"""Of a picture that is read whole beforehand: of more the cache of a small machine keeps nothing."""

_SAID_BY_LIBVIPS = re.compile(r"read error\s+(?:system|unix) error: ([^\n]+)")


@contextmanager
def opened(source: Source) -> Iterator[tuple[BinaryIO, str]]:
    """The file, at its beginning, and its name for messages.

    Of a file object what lies behind its current position counts; it is left open. Only a plain file of the system at
    position 0 is read as it is, and is at 0 again afterwards; others (sockets, members of archives) are read into
    memory first (`reopenable`).

    Raises:
        NotFound: no such file, not a regular one, or it may not be read.
        ReadFailed: reading it met an error, whatever was made of it.
    """
    if isinstance(source, str | os.PathLike):
        name = show(source)
        path = source if isinstance(source, Path) else Path(source)
        with _open_path(path, name) as file, _read_errors_told(file, name):
            yield file, name
        return
    again = reopenable(source)
    if isinstance(again, bytes | bytearray | memoryview):
        yield io.BytesIO(again), _name(source)
        return
    file = _remembering(again)
    try:
        with _read_errors_told(file, _name(source)):
            yield file, _name(source)
    finally:
        # To the end first: to go to a place in its buffer is all the same to Python, wherever others (libvips) have
        # moved the descriptor meanwhile, and it then reads on from there.
        again.seek(0, os.SEEK_END)
        again.seek(0)


@contextmanager
def _read_errors_told(file: io.BufferedReader, name: str) -> Iterator[None]:
    """No picture is blamed for an error of the disk, and none passes for a page that met one.

    Raises:
        ReadFailed: reading the file met one.
    """
    assert isinstance(file.raw, ReadFile)
    file.raw.failed = None
    try:
        yield
    except ReadFailed:
        raise
    except (ImageError, SystemError, *PARSE_ERRORS) as error:  # SystemError: of Pillow's JPEG 2000, over an error
        if failed := file.raw.failed or (error if isinstance(error, ReadError) else None):
            raise ReadFailed(name, failed) from error
        raise
    if file.raw.failed is not None:
        raise ReadFailed(name, file.raw.failed)


def reopenable(source: BinaryIO | bytes | bytearray | memoryview) -> BinaryIO | bytes | bytearray | memoryview:
    """The same in a form that can be opened several times: a file object that can be read once becomes its bytes.

    Raises:
        ReadFailed: it cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview) or _is_plain_file(source):
        return source
    try:
        return source.read()
    except OSError as error:
        raise ReadFailed(_name(source), error) from error


def _remembering(file: BinaryIO) -> io.BufferedReader:
    """The same file, remembering its errors; to be read instead."""
    if isinstance(file, io.BufferedReader) and isinstance(file.raw, ReadFile):
        return file
    file.flush()
    return io.BufferedReader(ReadFile(file.fileno(), closefd=False))


def _name(source: BinaryIO | bytes | bytearray | memoryview) -> str:
    if isinstance(source, bytes | bytearray | memoryview):
        return f"{len(source)} bytes"
    given = getattr(source, "name", None)
    return show(given) if isinstance(given, str) and given else "a file object"


def _is_plain_file(file: BinaryIO) -> bool:
    """Whether its descriptor tells what reading it would: not so of a GzipFile, which has one too."""
    return (
        isinstance(file, io.BufferedReader | io.BufferedRandom)
        and isinstance(file.raw, io.FileIO)
        and stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        and file.tell() == 0
    )


@contextmanager
def _open_path(path: Path, name: str) -> Iterator[io.BufferedReader]:
    try:
        file = open_regular(path)
    except NotRegularError as error:
        raise NotFound(f"{name}: {error.strerror}") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise NotFound(f"{name}: cannot be opened: {reason}") from error
    with file:
        yield file


def read_through(file: BinaryIO) -> None:
    """Reads a file whole before libvips does: where a read of its JPEG loader fails, the process dies of it.

    Nor may one of what it maps into memory, as it does WebP. What was read is in the system's cache, 0.1 ms a MB.

    Raises:
        OSError: it cannot be read.
    """
    file.seek(0)
    for _ in range(0, MOST_READ_BYTES, 1 << 20):
        if not file.read(1 << 20):
            break


def raise_if_unread(said: str) -> None:
    """For what libvips says, before a picture is blamed for it.

    Raises:
        ReadError: it could not read the file.
    """
    if match := _SAID_BY_LIBVIPS.search(said):
        number = next((one for one in errno.errorcode if os.strerror(one) == match[1].strip()), errno.EIO)
        raise ReadError(number, os.strerror(number))


@contextmanager
def place_kept(file: BinaryIO) -> Iterator[None]:
    """libvips moves the descriptor behind the back of Python's buffer, which would then read from elsewhere."""
    if isinstance(file, io.BytesIO):
        yield
        return
    place = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    try:
        yield
    finally:
        os.lseek(file.fileno(), place, os.SEEK_SET)
