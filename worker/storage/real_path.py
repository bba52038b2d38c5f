"""Where a name leads, through links that strangers laid: as the kernel finds it, and never for long.

`os.path.realpath` reads link after link itself: a Python frame each (1,000 in a row were a RecursionError, for good, of
a watched folder), with no end at 40 as the kernel has it, and what was a link a moment ago may be none when it is read.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

MOST_LINKS = 40
"""In one name, as the kernel has it."""

MOST_LETTERS = 1 << 15
"""Of a name that cannot be opened, links unfolded, each folder on its way is looked at, by names of so many letters
together: about 5 ms at most. A path of 1,000 in 60 folders takes 30,000; one of 4,096 in 2,048 folders took 500 ms, and
may lead to 40 more."""


def real_path(path: str | Path) -> Path:
    """The absolute path without links. What is not there, or may not be looked at, is taken for no link.

    Of more links than the kernel follows the 41st is given: no file can be opened through it.

    Raises:
        OSError: ENAMETOOLONG: it cannot be opened, and is too long to be looked at.
        ValueError: no path; a NUL is in it.
    """
    if not hasattr(os, "O_PATH"):  # no Linux
        return _link_by_link(path)
    try:  # it opens nothing: no pipe is waited for, no permission to read is needed
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return _link_by_link(path)
    try:
        return place_of(descriptor, path)
    finally:
        os.close(descriptor)


def real_or_named(path: str | Path) -> Path:
    """As `real_path`; where that cannot be told, the path as it was named, made absolute."""
    try:
        return real_path(path)
    except OSError:
        return Path(os.path.abspath(path))  # noqa: PTH100  # Path.absolute keeps `..`; resolve would follow links


def place_of(descriptor: int, name: str | Path) -> Path:
    """Where an open file lies, whatever has its name by now.

    Args:
        descriptor: of the file.
        name: of the file, for systems without /proc.

    Raises:
        OSError: as `real_path`.
    """
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink()
    except FileNotFoundError:
        return _link_by_link(name)


def open_folder(folder: str | Path, real: str = "") -> int:
    """A descriptor of a folder, to be listed.

    Who looks at a name, and opens it when its turn has come, may have opened what a link in its place, or in that of a
    folder above it, leads to.

    Args:
        folder: its name.
        real: where it must lie, an absolute path without links; empty: anywhere.

    Raises:
        OSError: it cannot be opened; or it lies elsewhere.
    """
    descriptor = os.open(folder, _LIST)
    try:
        if not real or str(place_of(descriptor, folder)) == real:
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    # It lies elsewhere, or is called otherwise: file systems that do not tell capitals apart may give another spelling.
    *way, last = [part for part in real.split("/") if part] or ["."]
    descriptor = os.open("/", _PASS)
    for part, flags in [*((part, _PASS) for part in way), (last, _LIST)]:
        above = descriptor
        try:
            descriptor = os.open(part, flags | os.O_NOFOLLOW, dir_fd=above)
        finally:
            os.close(above)
    return descriptor


_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PASS = _LIST | getattr(os, "O_PATH", 0)  # it need not be readable


def _link_by_link(path: str | Path) -> Path:
    rest = os.path.join(os.getcwd(), path).split("/")[::-1]  # noqa: PTH109, PTH118  # Path would lose nothing, but time
    here, links, letters = "", 0, 0
    while rest:
        letters += len(here) + 1
        if letters > MOST_LETTERS:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
        part = rest.pop()
        if part in ("", "."):
            continue
        above, here = here, f"{here}/{part}"
        if part == "..":
            here = above.rpartition("/")[0]
            continue
        try:
            target = os.readlink(here)  # noqa: PTH115
        except OSError:  # no link, or not there, or none any more
            continue
        links += 1
        if links > MOST_LINKS:
            break
        here = "" if target.startswith("/") else above
        rest += target.split("/")[::-1]
    return Path(here or "/")
