"""Places for jobs, given in turn: a job that waits for the machine or the broker gives its place to who comes next.

Before: it kept it, so 16 jobs that waited for ever kept all others out.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from producer.web.bounds.progress import Progress

Turn = Callable[[], bool]
"""Does what it can, and says whether it wants another turn, behind all others."""


class JobTurns:
    """Threads for so many jobs at a time; the others wait in line.

    A job in line is a few hundred bytes, whatever waits for it: 20,000 may be, and with a task and a future of the
    threads' for each they were 88 MB.
    """

    def __init__(self, places: int, name: str) -> None:
        """Start nothing yet.

        Args:
            places: threads.
            name: of the threads, for people.
        """
        self._threads = ThreadPoolExecutor(places, name)
        self._lock = threading.Lock()
        self._free = places
        self._line: OrderedDict[JobTurn, None] = OrderedDict()
        self._stopped = False

    @property
    def in_line(self) -> int:
        """How many wait for a place."""
        return len(self._line)

    def begin(self, turn: Turn) -> JobTurn:
        """Put a job in line."""
        job = JobTurn(self, turn)
        self._get_in_line(job)
        return job

    def stop(self) -> None:
        """Give no more turns; return when those in line know it. May be called twice."""
        with self._lock:
            self._stopped = True
            left = list(self._line)
            self._line.clear()
        for job in left:
            job._end()
        self._threads.shutdown(wait=False)

    def join(self) -> None:
        """Return when all turns are over."""
        self._threads.shutdown(wait=True)

    def _get_in_line(self, job: JobTurn) -> None:
        with self._lock:
            stays = not self._stopped and not job._given_up
            if stays:
                self._line[job] = None
                self._fill_places()
        if not stays:
            job._end()

    def _fill_places(self) -> None:
        while self._line and self._free:
            job, _ = self._line.popitem(last=False)
            self._free -= 1
            self._threads.submit(self._give, job)  # what a turn raises is said by who gave it to us

    def _give(self, job: JobTurn) -> None:
        again = False
        try:
            again = not (self._stopped or job._given_up) and job._turn()
        finally:
            with self._lock:
                self._free += 1
            if again:
                self._get_in_line(job)
            else:
                job._end()
            with self._lock:
                if not self._stopped:
                    self._fill_places()

    def _leave(self, job: JobTurn) -> bool:
        with self._lock:
            job._given_up = True
            was_in_line = self._line.pop(job, self) is None
        if was_in_line:
            job._end()
        return job.is_over


class JobTurn:
    """A job in line, or in its place.

    Attributes:
        is_over: it wants no more turns, or gets none: the service stops, or `leave`.
    """

    __slots__ = ("_ended", "_given_up", "_turn", "_turns", "is_over")

    def __init__(self, turns: JobTurns, turn: Turn) -> None:
        """See `JobTurns.begin`."""
        self._turns, self._turn = turns, turn
        self._given_up = self.is_over = False
        self._ended: Future[None] | None = None

    @property
    def ended(self) -> Future[None]:
        """Done when it `is_over`. Made for who asks: 1.6 KB."""
        with self._turns._lock:
            if self._ended is None:
                self._ended = Future()
                self._ended.set_running_or_notify_cancel()  # who waits for it cannot cancel it
                if self.is_over:
                    self._ended.set_result(None)
            return self._ended

    def leave(self) -> bool:
        """Give it no more turns. False: one is not over yet; `ended` tells."""
        return self._turns._leave(self)

    def _end(self) -> None:
        with self._turns._lock:
            self.is_over, ended = True, self._ended
        if ended is not None:
            ended.set_result(None)


class Running:
    """One job on its way, or in line: 20,000 of these with an event each were 30 MB of the page's 96."""

    __slots__ = ("damaged", "full_since", "progress", "stopped", "turn", "waited_s")

    def __init__(self) -> None:
        self.stopped = False
        self.progress = Progress()
        self.turn: JobTurn | None = None
        self.damaged = False  # its keys are: it begins anew
        self.full_since = 0.0  # the quota is used up; 0: it is not
        self.waited_s = 0.0  # for its folders, the last time that they did not answer
