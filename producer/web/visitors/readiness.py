"""Whether the page can take a job, which whoever asks is told without a token: looked at once for all who ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from producer.web.problem import Problem

KEPT_S = 1.0
"""As long the answer is the last one. Before: each asked Redis and counted all jobs in a thread of its own, and 60 who
asked without a pause had another's job told after 2 s."""


class Readiness:
    """The last answer. For one event loop alone."""

    def __init__(self, look: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        """Look at nothing yet.

        Args:
            look: raises a Problem where the page can take no job; called in a thread, one at a time.
            clock: seconds.
        """
        self._look, self._clock = look, clock
        self._looking: asyncio.Task[Exception | None] | None = None
        self._looked_at = float("-inf")

    async def problem(self) -> Problem | None:
        """Why it can take none; None: it can. What else goes wrong as it looks is raised, and looked at again."""
        if self._looking is None or (self._looking.done() and self._clock() - self._looked_at >= KEPT_S):
            self._looking = asyncio.create_task(self._look_up())
        found = await asyncio.shield(self._looking)  # it is everybody's: who leaves ends it for nobody
        if found is None or isinstance(found, Problem):
            return found
        raise found

    async def _look_up(self) -> Exception | None:
        try:
            await run_in_threadpool(self._look)
        except Exception as error:
            if isinstance(error, Problem):
                self._looked_at = self._clock()
            return error.with_traceback(None)
        self._looked_at = self._clock()
        return None
