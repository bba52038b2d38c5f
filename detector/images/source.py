"""Where a page's bytes come from: a path, bytes, or a file object, as one seekable binary file with a name."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from detector.errors import NotFound, show
from detector.images.regular_file import NotRegularError, open_regular

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""A path, a file's whole content, or a file object opened for binary reading."""


@contextmanager
def opened(source: Source) -> Iterator[tuple[BinaryIO, str]]:
    """The file, at its beginning, and its name for messages.

    Of a file object what lies behind its current position counts; it is left open. Only a plain file of the system at
    position 0 is read as it is, and is at 0 again afterwards; others (sockets, members of archives) are read into
    memory first (`reopenable`).

    Raises:
        NotFound: no such file, not a regular one, or it may not be read.
    """
    if isinstance(source, str | os.PathLike):
        name = show(source)
        with _open_path(source if isinstance(source, Path) else Path(source), name) as file:
            yield file, name
        return
    again = reopenable(source)
    if isinstance(again, bytes | bytearray | memoryview):
        yield io.BytesIO(again), _name(source)
        return
    try:
        yield again, _name(source)
    finally:
        # To the end first: to go to a place in its buffer is all the same to Python, wherever others (libvips) have
        # moved the descriptor meanwhile, and it then reads on from there.
        again.seek(0, os.SEEK_END)
        again.seek(0)


def reopenable(source: BinaryIO | bytes | bytearray | memoryview) -> BinaryIO | bytes | bytearray | memoryview:
    """The same in a form that can be opened several times: a file object that can be read once becomes its bytes.

    Raises:
        NotFound: it cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview) or _is_plain_file(source):
        return source
    try:
        return source.read()
    except OSError as error:
        raise NotFound(f"{_name(source)}: cannot be read: {error.strerror or error}") from error


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
def _open_path(path: Path, name: str) -> Iterator[BinaryIO]:
    try:
        file = open_regular(path)
    except NotRegularError as error:
        raise NotFound(f"{name}: {error.strerror}") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise NotFound(f"{name}: cannot be opened: {reason}") from error
    with file:
        yield file
