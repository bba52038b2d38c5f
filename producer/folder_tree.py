"""Folders in folders, however deep: a stranger's archive may hold a thousand.

`shutil.rmtree` (before Python 3.13), `os.walk` (before 3.12) and `Path.rglob` (before 3.13) call themselves for each
folder inside, and end in a RecursionError at about a thousand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def entries_below(folder: Path, *, strict: bool = False) -> Iterator[os.DirEntry[str]]:
    """All files, folders and links below a folder, in no order; links are not followed.

    Args:
        folder: where to look.
        strict: whoever looks must have seen all: a folder of mode 0300 can be written into, and not be listed.

    Raises:
        OSError: if strict, a folder cannot be listed, or has a path of more than the system's 4,096 bytes. Else it is
            passed over.
    """
    waiting = [os.fspath(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    yield entry
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            if strict:
                raise


def remove_tree(folder: Path) -> None:
    """Remove a folder with all in it, as far as that can be done; one that is not there is fine."""
    with suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):  # too deep, or with more folders open than one process may have
        subprocess.run(("rm", "-rf", "--", folder), check=False, stderr=subprocess.DEVNULL)
