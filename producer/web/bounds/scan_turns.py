"""Whose turn it is to have his files looked through: nobody's small zip waits for another's fifty slow ones.

Every scan first has a short turn. What is not done in it begins again in its turn of the long ones, one at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from producer.archive_process.limited_readers import limited_readers
from producer.sources.readers import Readers
from producer.sources.scan_time import ScanTime, TurnIsOverError

SHORT_S = 60.0
"""A zip of 10,000 small pictures takes 2 s."""

QUICK_AT_A_TIME = 4  # a PDF's pages are counted by a process, 45 MB of an ordinary one
LOOK_S = 0.5

Scan = Callable[[Readers, ScanTime], int]


class ScanTurns:
    """One short scan at a time, a few of quick jobs, and one long one: each has processes, up to 300 MB together."""

    def __init__(self) -> None:
        """Nobody's."""
        self._quick = threading.Semaphore(QUICK_AT_A_TIME)
        self._short = threading.Semaphore()
        self._long = threading.Semaphore()

    def run(self, scan: Scan, *, quick: bool, look_up: Callable[[], None]) -> int:
        """A scan, in its turn; perhaps twice, from its beginning.

        Args:
            scan: given what opens files, and its time, which it looks at (`ScanTime.check_turn`) at each page.
            quick: of a job for whose answer somebody waits.
            look_up: called while it is others' turn; may raise.
        """
        try:
            with self._turn(self._quick if quick else self._short, look_up):
                return _within(scan, ScanTime(SHORT_S))
        except TurnIsOverError:
            with self._turn(self._long, look_up):
                return _within(scan, ScanTime())

    @contextmanager
    def _turn(self, turns: threading.Semaphore, look_up: Callable[[], None]) -> Iterator[None]:
        while not turns.acquire(timeout=LOOK_S):
            look_up()
        try:
            yield
        finally:
            turns.release()


def _within(scan: Scan, scan_time: ScanTime) -> int:
    with limited_readers(scan_time) as readers:
        return scan(readers, scan_time)
