"""Celery's prefork pool, replacing a recycled child at once, and removing what a lost one left.

The way to a member of an archive is no time of its page (worker/storage/way.py): neither limit counts it, and a child
that has come far in one is not replaced before it was worth it.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from billiard import current_process
from billiard import pool as billiard_pool
from billiard.pool import EX_OK, EX_RECYCLE
from celery import platforms
from celery.concurrency import asynpool
from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import TaskPool
from celery.utils.log import get_logger

from worker.celery_ext.request import keep_in_hand
from worker.process import set_parent_death_signal
from worker.settings import settings
from worker.storage import way
from worker.storage.held_copies import remove_left
from worker.storage.remote import Unended

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


LIVES = 10
"""Times as long as its way into an archive a child lives at least: ways are a tenth of all time at most. Replaced after
200 pages each, children read a .tar.gz of a million pages 2,500 times."""

# Time limits are seconds; a timer may be early by its clock's grain.
_GRAIN_S = 0.05


class PatientWorker(asynpool.Worker):
    """A child that counts its pages itself, and goes on while it holds a far place in an archive.

    One whose memory passed its limit is replaced as before, after the page; so is one with a transfer that did not end.
    """

    maxtasks: int | None
    wait_for_job: Callable[[], Any]

    def _make_child_methods(self, *arguments: Any) -> None:
        super()._make_child_methods(*arguments)
        way.HERE.of_child(current_process().index)
        most, self.maxtasks = self.maxtasks, None
        receive, born, pages = self.wait_for_job, time.monotonic(), 0

        def wait_for_job() -> Any:
            nonlocal pages
            if Unended.is_there:
                sys.exit(EX_RECYCLE)
            if most and pages >= most and time.monotonic() - born >= LIVES * way.HERE.held_s():
                sys.exit(EX_RECYCLE)
            message = receive()
            pages += bool(message)
            return message

        self.wait_for_job = wait_for_job


class PromptPool(AsynPool):
    """Looks for a dead child again shortly after its end.

    Celery's pool is woken by the pipe a child holds open, but then often finds the child not yet waitable, and looks
    again only at its five-second timer: at 200 images a child and 25 ms an image that is a third of the time.
    """

    Worker = PatientWorker
    _hub: Any = None

    def register_with_event_loop(self, hub: Any) -> None:
        self._hub = hub
        super().register_with_event_loop(hub)

    def _on_soft_timeout(self, job: int, soft: float, hard: float | None, hub: Any) -> None:
        """Celery's own, later by as much as the page's child was on its way."""
        if (left := self._left_s(job, soft)) > _GRAIN_S:
            self._tref_for_id[job] = hub.call_later(left, self._on_soft_timeout, job, soft, hard, hub)
            keep_in_hand()
        else:
            super()._on_soft_timeout(job, soft, hard, hub)

    def _on_hard_timeout(self, job: int) -> None:
        result = self._cache.get(job)
        if result is not None and (left := self._left_s(job, result._timeout)) > _GRAIN_S:
            self._tref_for_id[job] = self._hub.call_later(left, self._on_hard_timeout, job)
            keep_in_hand()
        else:
            super()._on_hard_timeout(job)

    def _left_s(self, job: int, limit: float) -> float:
        """How much of its own time a page has left, seconds; 0 where its child is gone."""
        result = self._cache.get(job)
        child = next((each.index for each in self._pool if result and each.pid == result._worker_pid), None)
        if result is None or child is None:
            return 0.0
        since = result._time_accepted
        return float(limit - (time.monotonic() - since - way.granted_s(child, since)))

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
