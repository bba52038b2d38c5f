"""Pages for which the producer's temporary folder had no room: tried again a few times, while others go on.

A member of 40 MB finds no room in a /tmp of 16, however often it is tried: then it is that page's fault. A disk that
has no room for any page is the machine's: whoever sends pages waits, or says so, and no page is lost.
"""

from __future__ import annotations

import errno
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Generic, TypeVar

from worker.storage.spool import MachineFault

PAUSE_S = 2.0
"""Between two tries of a page."""

MOST = 64
"""Pages aside at a time; with more, no other is begun before some of them are sent or given up."""

ROOM_BYTES = 4 << 20
"""For an ordinary page. With less the disk is full, whatever page finds it so."""

NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))

Page = TypeVar("Page")


class PutAside(Generic[Page]):
    """One job's pages that wait for room, by their numbers."""

    def __init__(self, spool: Path, tries: int) -> None:
        """None yet.

        Args:
            spool: where they find no room.
            tries: of each, before it is given up.
        """
        self._spool = spool
        self._tries = tries
        self._failed: dict[int, int] = {}
        self._waiting: deque[tuple[float, Page]] = deque()

    def __bool__(self) -> bool:
        """Whether any waits."""
        return bool(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether no other page should be begun."""
        return len(self._waiting) >= MOST

    def put(self, number: int, page: Page, fault: MachineFault) -> str:
        """A page found no room.

        Args:
            number: of the page.
            page: what `due` gives back.
            fault: what the system said.

        Returns:
            Why it is given up, in one line; empty: it will be due again.

        Raises:
            MachineFault: ``fault``, where it is no matter of this page.
        """
        if fault.errno not in NO_ROOM or not has_room(self._spool):
            raise fault
        failed = self._failed.pop(number, 0) + 1
        if failed < self._tries:
            self._failed[number] = failed
            self._waiting.append((time.monotonic() + PAUSE_S, page))
            return ""
        return (
            f"given up after {failed} tries: it does not fit in the temporary folder ({fault.strerror}), where others "
            "do; make room there, or unpack the archive, then `retry`"
        )

    def due(self) -> Page | None:
        """The next page whose time has come; it no longer waits."""
        if self._waiting and self._waiting[0][0] <= time.monotonic():
            return self._waiting.popleft()[1]
        return None


def has_room(spool: Path) -> bool:
    """Whether an ordinary page fits, tried out: quotas and lack of inodes are seen nowhere else."""
    try:
        with tempfile.TemporaryFile(dir=spool) as probe:
            for _ in range(ROOM_BYTES >> 20):
                probe.write(bytes(1 << 20))
            probe.flush()
    except OSError:
        return False
    return True
