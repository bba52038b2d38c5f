"""Whose turn it is to have his files looked through: nobody's small zip waits for another's fifty slow ones.

Every scan first has a short turn. What is not done in it begins again in its turn of the long ones, one at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial

from producer.archive_process.limited_readers import limited_readers
from producer.sources.readers import Readers
from producer.sources.scan_time import ScanTime, TurnIsOverError
from producer.web.visitors.questions import NoAnswerError, Questions

SHORT_S = 60.0
"""A zip of 10,000 small pictures takes 2 s."""

QUICK_AT_A_TIME = 4  # a PDF's pages are counted by a process, 45 MB of an ordinary one
SILENT_S = 20.0
"""After so long without a name or a page, or a byte of one, a folder of OCRFLEET_ROOTS does not answer."""

SLOWER = 4.0
"""The next time it has so many times as long: sshfs and s3fs list a whole folder before they tell its first name."""

MOST_SCANS = 10
"""Of such folders: those that have their turns, and four that did not answer."""

LOOK_S, ENDED_S = 0.5, 5.0

Scan = Callable[[Readers, ScanTime], int]


class ScanTurns:
    """One short scan at a time, a few of quick jobs, and one long one: each has processes, up to 300 MB together."""

    def __init__(self) -> None:
        """Nobody's."""
        self._quick = threading.Semaphore(QUICK_AT_A_TIME)
        self._short = threading.Semaphore()
        self._long = threading.Semaphore()
        self._scans = Questions(MOST_SCANS)

    def run(
        self,
        scan: Scan,
        *,
        quick: bool,
        look_up: Callable[[], None],
        whose: str = "",
        waited_s: float = 0.0,
        attempt: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> int:
        """A scan, in its turn; perhaps twice, from its beginning.

        Args:
            scan: given what opens files, and its time, which it looks at (`ScanTime.check_turn`) at each page, and
                before it keeps what it found.
            quick: of a job for whose answer somebody waits.
            look_up: called while it is others' turn, and while folders are waited for; may raise.
            whose: the job that names folders, which may never answer; empty: the files are the page's own.
            waited_s: `NoAnswerError.waited_s` of its last scan: this one waits longer, in a turn of the long ones.
            attempt: what a turn is held in.

        Raises:
            NoAnswerError: such a folder does not answer now, or did not the last time, and does not yet.
        """
        if self._scans.has_asked(whose):  # before it waits for its turn, which may be long
            raise NoAnswerError
        if not waited_s:
            with suppress(TurnIsOverError), self._turn(self._quick if quick else self._short, look_up), attempt():
                return self._within(scan, ScanTime(SHORT_S), look_up, whose, SILENT_S)
        with self._turn(self._long, look_up), attempt():
            return self._within(scan, ScanTime(), look_up, whose, max(SILENT_S, SLOWER * waited_s))

    def _within(self, scan: Scan, scan_time: ScanTime, look_up: Callable[[], None], whose: str, silent_s: float) -> int:
        """The scan. The turn of one whose folders do not answer is over, whatever becomes of its thread."""
        if not whose:
            return _scan(scan, scan_time)
        if (answer := self._scans.ask(partial(_scan, scan, scan_time), whose)) is None:
            raise NoAnswerError
        while not wait((answer,), LOOK_S).done:
            try:
                look_up()
            except BaseException:
                scan_time.end()
                while not wait((answer,), LOOK_S).done and not scan_time.end_if_silent(ENDED_S):
                    """Its processes end in its turn, and it is out of its files."""
                raise
            if scan_time.end_if_silent(silent_s):
                raise NoAnswerError(silent_s)
        return answer.result()

    @contextmanager
    def _turn(self, turns: threading.Semaphore, look_up: Callable[[], None]) -> Iterator[None]:
        while not turns.acquire(timeout=LOOK_S):
            look_up()
        try:
            yield
        finally:
            turns.release()


def _scan(scan: Scan, scan_time: ScanTime) -> int:
    with limited_readers(scan_time) as readers:
        return scan(readers, scan_time)
