"""Places for jobs, given in turn: a job that waits for the machine or the broker gives its place to who comes next.

Before: it kept it, so 16 jobs that waited for ever kept all others out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

Turn = Callable[[], bool]
"""Does what it can, and says whether it wants another turn, behind all others."""


class JobTurns:
    """Threads for so many jobs at a time; the others wait in line."""

    def __init__(self, places: int, name: str) -> None:
        """Start nothing yet.

        Args:
            places: threads.
            name: of the threads, for people.
        """
        self._threads = ThreadPoolExecutor(places, name)
        self._lock = threading.Lock()
        self._in_line = 0

    @property
    def in_line(self) -> int:
        """How many wait for a place."""
        return self._in_line

    def begin(self, turn: Turn) -> JobTurn:
        """Put a job in line."""
        return JobTurn(self, turn)

    def stop(self) -> None:
        """Give no more turns; return when those that were given are over. May be called twice."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def join(self) -> None:
        """Return when all turns are over."""
        self._threads.shutdown(wait=True)

    def _submit(self, turn: Callable[[], None]) -> Future[None]:
        task = self._threads.submit(self._counted, turn)
        with self._lock:
            self._in_line += 1
        task.add_done_callback(lambda done: self._left() if done.cancelled() else None)
        return task

    def _counted(self, turn: Callable[[], None]) -> None:
        self._left()
        turn()

    def _left(self) -> None:
        with self._lock:
            self._in_line -= 1


class JobTurn:
    """A job in line, or in its place.

    Attributes:
        ended: when it wants no more turns, or gets none: the service stops, or `leave`.
    """

    def __init__(self, turns: JobTurns, turn: Turn) -> None:
        """See `JobTurns.begin`."""
        self.ended: Future[None] = Future()
        self.ended.set_running_or_notify_cancel()  # who waits for it cannot cancel it
        self._turns, self._turn = turns, turn
        self._lock = threading.Lock()
        self._given_up = False
        self._get_in_line()

    def leave(self) -> bool:
        """Give it no more turns. False: one is not over yet; `ended` tells."""
        with self._lock:
            self._given_up = True
            task = self._task
        return task is None or task.cancel()

    def _get_in_line(self) -> None:
        with self._lock:
            self._task: Future[None] | None = None
            if not self._given_up:
                try:
                    self._task = self._turns._submit(self._run)
                except RuntimeError:  # the service stops
                    self._given_up = True
            task = self._task
        if task is None:
            self.ended.set_result(None)
        else:
            task.add_done_callback(lambda done: self.ended.set_result(None) if done.cancelled() else None)

    def _run(self) -> None:
        again = False
        try:
            again = self._turn()
        finally:
            if again:
                self._get_in_line()
            else:
                self.ended.set_result(None)
