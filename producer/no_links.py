"""Files that are written where others may write too: never through a link."""

from __future__ import annotations

import os


def no_links(path: str, flags: int) -> int:
    """Opener for `open`: who put a link where our lock or log goes had us empty a file of ours, or write into it.

    Raises:
        OSError: ELOOP, with the path: it is a link.
    """
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
