"""How many workers Flower keeps: whoever may write to Redis makes up names, and each stays for good.

For every name Flower holds counters and histograms of its own for Prometheus, which go with the worker when somebody
opens its page, and not at all otherwise: 14,000 messages of made-up names took it from 67 MB to 1.1 GB.
"""

from __future__ import annotations

import logging
from typing import Any

from worker.log_format import FewOfEach
from worker.ops.few_workers import MOST_WORKERS, FewWorkers

logger = logging.getLogger(__name__)
logger.addFilter(FewOfEach())


def bound_workers(workers: FewWorkers | None = None) -> None:
    """From now on Flower keeps no more workers than that. Events of others are left out."""
    from flower.events import EventsState

    few = workers or FewWorkers()
    take = EventsState.event
    known: set[int] = set()

    def event(self: Any, event: dict[str, Any]) -> None:
        if id(self) not in known:  # what `--db` brought back may be of a time before this bound
            known.add(id(self))
            for name in [name for name in self.counter if not few.admit(name)[0]]:
                forget(self, name)
        admitted, forgotten = few.admit(event["hostname"])
        if forgotten:
            forget(self, forgotten)
        if admitted:
            take(self, event)
        else:
            logger.warning("an event of one worker more than %d was dropped", MOST_WORKERS)

    EventsState.event = event


def forget(state: Any, name: str) -> None:
    """Drop all that Flower holds of a worker but its tasks, of which it keeps 10,000."""
    state.metrics.remove_workers({name})
    state.counter.pop(name, None)
    state.workers.pop(name, None)
    state.tasks_by_worker.pop(name, None)
