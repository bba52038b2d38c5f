"""What the disk holds of a file. Time is given by that: its length costs nobody anything (``truncate -s 16T``)."""

from __future__ import annotations

import os
from pathlib import Path

from detector.images.regular_file import open_regular

MOST_SHRUNK = 4
"""File systems that compress (ZFS) hold less of an honest file: of packed pictures hardly, of a tar of plain scans the
more, and those are read at hundreds of MiB a second."""

FEWEST_BYTES = 4096
"""Some keep small files beside their names and say 0 blocks."""


def held_bytes(path: Path, status: os.stat_result) -> int:
    """By how many bytes of a file its time is measured: its size, but no more than what lies on the disk allows.

    Args:
        path: the file.
        status: of it, as `os.stat` has it.
    """
    on_disk = status.st_blocks * 512
    if on_disk == 0 and status.st_size > FEWEST_BYTES and _begins_with_data(path):
        return status.st_size  # a file system that counts no blocks: FUSE, where its program says none
    return min(status.st_size, MOST_SHRUNK * max(on_disk, FEWEST_BYTES))


def _begins_with_data(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0
    except (OSError, ValueError):  # nothing but a hole
        return False
