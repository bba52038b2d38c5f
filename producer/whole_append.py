"""What is put behind a file is there whole or not at all, whatever is killed meanwhile; the file is not copied for it.

Beside the file a note says how long it was. A process that is killed leaves the note, and who opens the file next cuts
off what came after (`take_back`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from detector.atomic import atomic_write
from producer.no_links import no_links, read_small


@contextmanager
def whole_append(path: Path) -> Iterator[BinaryIO]:
    """The file, open at its end; what the block wrote is on the disk when it ends, and gone if it raises.

    Args:
        path: the file, which must be there, and must be the caller's alone to append to meanwhile (a lock).

    Raises:
        OSError: it is no regular file, it is a link, or the disk is full.
    """
    take_back(path)
    try:
        with open(path, "ab", opener=no_links) as stream:
            there = os.fstat(stream.fileno())
            with atomic_write(_note_of(path), sync=True) as part:
                part.write_text(f"{there.st_ino} {there.st_size}", encoding="ascii")
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        take_back(path)
        raise
    _note_of(path).unlink()


def take_back(path: Path) -> None:
    """Cut off what a process that was killed had not finished appending. Nothing happens where none was.

    Only for who may append: what another is appending would go.

    Raises:
        OSError: the file cannot be changed.
    """
    note = _note_of(path)
    with suppress(FileNotFoundError, ValueError):  # of another's note nothing is believed
        inode, size = map(int, read_small(note).split())
        with open(path, "r+b", opener=no_links) as stream:
            there = os.fstat(stream.fileno())
            # Another inode: the file was written anew since.
            if there.st_ino == inode and 0 <= size < there.st_size:
                stream.truncate(size)
                os.fsync(stream.fileno())
    note.unlink(missing_ok=True)


def _note_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.appending")
