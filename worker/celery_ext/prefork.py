"""Celery's prefork pool, replacing a recycled child at once, and removing what a lost one left."""

from __future__ import annotations

import signal
from typing import Any

from billiard import pool as billiard_pool
from billiard.pool import EX_OK, EX_RECYCLE
from celery import platforms
from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import TaskPool
from celery.utils.log import get_logger

from worker.process import set_parent_death_signal
from worker.settings import settings
from worker.storage.held_copies import remove_left

logger = get_logger(__name__)
# The kernel closes a dying process's files a moment before it can be waited for; a second is generous on a slow disk.
# A look costs microseconds, a missed child the time until the next one; a busy machine takes its time to remove it.
LOOK_AGAIN_S = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.0, 2.0, 3.5)


# A child that is to be replaced waits until its last answer was read, and asks for that every 0.1 s; the answer needs a
# millisecond. Together still 30 s.
billiard_pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL = 0.002
billiard_pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 15_000

# Each new child asks to die with its parent, for which billiard has cffi compile a line of C wherever a library has
# imported cffi: 30 ms and 3 MB of every child. Ours (worker/tasks.py) asks by ctypes, for the same signal.
platforms.set_pdeathsig = lambda name: set_parent_death_signal(signal.Signals[name])


class PromptPool(AsynPool):
    """Looks for a dead child again shortly after its end.

    Celery's pool is woken by the pipe a child holds open, but then often finds the child not yet waitable, and looks
    again only at its five-second timer: at 200 images a child and 25 ms an image that is a third of the time.
    """

    def _event_process_exit(self, hub: Any, proc: Any) -> None:
        super()._event_process_exit(hub, proc)
        for delay in LOOK_AGAIN_S:
            hub.call_later(delay, self.maintain_pool)

    def _join_exited_workers(self, shutdown: bool = False) -> Any:
        """Celery's own, for every child that has ended; one that was killed has removed no copy of its page."""
        ended = super()._join_exited_workers(shutdown)
        if any(code not in (EX_OK, EX_RECYCLE) for code in ended):
            clear_spool()
        return ended


def clear_spool() -> None:
    """Remove the copies of processes that are gone, before the spool is full of them."""
    if freed := remove_left(settings().spool):
        logger.warning("removed %.1f MB that processes which are gone left in %s", freed / 1e6, settings().spool)


class FleetPool(TaskPool):
    """The pool of ``worker.app``: prefork, with :class:`PromptPool`."""

    Pool = PromptPool
