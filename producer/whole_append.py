"""What is put behind a file is there whole or not at all, whatever is killed meanwhile; the file is not copied for it.

Beside the file a note says how long it was. A process that is killed leaves the note, and who appends next, or locks
the file's folder, cuts off what came after. Of those who append at once each waits for the other (flock), at a file in
`.ocrfleet` that nobody else can open: who may read the list had its lock, too, and kept jobs waiting for as long as he
liked.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from detector.atomic import atomic_write, named
from producer.held_folder import PRIVATE, hold, ours_to_write
from producer.no_links import no_links, own_below, read_small


@contextmanager
def whole_append(path: Path) -> Iterator[BinaryIO]:
    """The file, open at its end; what the block wrote is on the disk when it ends, and gone if it raises.

    Args:
        path: the file, which must be there.

    Raises:
        OSError: it is no regular file, it is a link, or the disk is full.
    """
    with named(path), _locked(path) as file:
        _undo(path, file)
        try:
            # A file of its own: what is still in its buffer goes to the disk when it is closed, before all of it goes.
            with open(path, "ab", opener=no_links) as stream:
                there = os.fstat(file.fileno())
                with (
                    atomic_write(_note_of(path), sync=True) as part,
                    open(part, "w", encoding="ascii", opener=ours_to_write) as note,
                ):
                    note.write(f"{there.st_ino} {there.st_size}")
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
        except BaseException:
            _undo(path, file)
            raise
        _note_of(path).unlink()


@contextmanager
def rewriting(path: Path) -> Iterator[None]:
    """In the block nobody appends, and the file may be written anew; what a killed process left half appended is gone.

    Raises:
        OSError: the file cannot be changed.
    """
    with named(path), _locked(path) as file:
        _undo(path, file)
        yield


def take_back(path: Path) -> None:
    """Cut off what a process that was killed had not finished appending. Nothing happens where none was.

    Raises:
        OSError: the file cannot be changed.
    """
    if not os.path.lexists(_note_of(path)):
        return
    try:
        with named(path), _locked(path) as file:
            _undo(path, file)
    except FileNotFoundError:  # the note is of a list that was removed
        _note_of(path).unlink(missing_ok=True)


def drop_parts(path: Path) -> None:
    """Remove what a process that was killed was writing to take the file's place: for who holds the file's folder.

    A collector that appends does not hold it, and its note is written so, too: each ended over the other's.

    Raises:
        OSError: they cannot be removed.
    """
    if not any(_parts_of(path)):
        return
    with suppress(FileNotFoundError), rewriting(path):
        for part in _parts_of(path):
            part.unlink(missing_ok=True)
        return
    for part in _parts_of(path):  # there is no file, to which anybody could append
        part.unlink(missing_ok=True)


def _parts_of(path: Path) -> Iterator[Path]:
    return path.parent.glob(f".{path.name}.*.part")


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    with (
        hold(path.parent) as place,
        own_below(place, PRIVATE, 0o700) as private,
        open(private.path / f"{path.name}.lock", "w", opener=no_links) as lock,
    ):
        with suppress(OSError):  # a disk that knows no modes
            os.fchmod(lock.fileno(), 0o600)  # `chmod -R g+rX OUT` lets others into `.ocrfleet`
        with suppress(OSError):  # a file system without locks, of which `OutputFolder.locked` has warned
            fcntl.flock(lock, fcntl.LOCK_EX)
        with open(path, "r+b", opener=no_links) as file:
            yield file


def _undo(path: Path, file: BinaryIO) -> None:
    note = _note_of(path)
    with suppress(FileNotFoundError, ValueError):  # of another's note nothing is believed
        inode, size = map(int, read_small(note).split())
        there = os.fstat(file.fileno())
        # Another inode: the file was written anew since.
        if there.st_ino == inode and 0 <= size < there.st_size:
            os.truncate(file.fileno(), size)
            os.fsync(file.fileno())
    note.unlink(missing_ok=True)


def _note_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.appending")
