"""Questions to folders of OCRFLEET_ROOTS, in threads of their own: one on a share whose server is away may hang.

Nothing ends a thread that the disk keeps. So there are a few, and who asked waits no longer than he likes. Before, 40
small requests that named a file of such a share had all the page's threads, and one job the turn of all scans.
"""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from producer.web.problem import Problem

VISITORS, PATIENCE_S, ANSWER_S = 4, 5.0, 20.0
"""What they ask at a time, and how long one waits for a place, and for his answer: a thousand addresses on a slow share
take seconds."""

LOOK_S = 0.02
NO_ANSWER = "a folder of OCRFLEET_ROOTS does not answer"
_Found = TypeVar("_Found")


class NoAnswerError(OSError):
    """The folder may answer later.

    Attributes:
        waited_s: so long nothing came from it; 0: it was not asked now.
    """

    def __init__(self, waited_s: float = 0.0) -> None:
        """Say it in one line."""
        super().__init__(errno.ETIMEDOUT, NO_ANSWER)
        self.waited_s = waited_s


class Questions:
    """So many at a time, and one for each who asks."""

    def __init__(self, most: int) -> None:
        """Ask nothing yet."""
        self._most, self._lock = most, threading.Lock()
        self._begun: dict[object, float] = {}

    def ask(self, what: Callable[[], _Found], whose: object = None) -> Future[_Found] | None:
        """Begin one. None: there is no place, or his last one has no answer yet.

        Args:
            what: asks.
            whose: who asks; None: somebody else each time.
        """
        whose = object() if whose is None else whose
        with self._lock:
            if whose in self._begun or len(self._begun) >= self._most:
                return None
            self._begun[whose] = time.monotonic()
        answer = Future[_Found]()
        answer.set_running_or_notify_cancel()  # who waits for it cannot cancel it

        def run() -> None:
            try:
                found = what()
            except BaseException as error:
                self._leave(whose)
                answer.set_exception(error)
            else:
                self._leave(whose)
                answer.set_result(found)

        try:
            threading.Thread(target=run, name="question", daemon=True).start()  # the page ends without it
        except BaseException:
            self._leave(whose)
            raise
        return answer

    def has_asked(self, whose: object) -> bool:
        """Whether his last one has no answer yet."""
        with self._lock:
            return whose in self._begun

    def _leave(self, whose: object) -> None:
        with self._lock:
            del self._begun[whose]

    def _all_hang(self, now: float) -> bool:
        with self._lock:
            return len(self._begun) >= self._most and all(now - begun > PATIENCE_S for begun in self._begun.values())

    async def answer(self, what: Callable[[], _Found]) -> _Found:
        """What a visitor asks. For the event loop, whose threads have none of it.

        Raises:
            Problem: 503, it does not come.
        """
        until = time.monotonic() + PATIENCE_S
        while (answer := self.ask(what)) is None:
            if (now := time.monotonic()) > until or self._all_hang(now):
                raise no_answer()
            await asyncio.sleep(LOOK_S)
        done, _ = await asyncio.wait([told := asyncio.wrap_future(answer)], timeout=ANSWER_S)
        if not done:
            told.cancel()
            raise no_answer()
        return told.result()


of_visitors = Questions(VISITORS)


def no_answer() -> Problem:
    """What a visitor is told."""
    return Problem(503, NO_ANSWER, "try again when the share is back; upload the files otherwise", retry_after_s=10)
