"""A job's share of the window while other jobs have pages on their way: one job's pages leave room for another's."""

from __future__ import annotations

import time

from worker.broker.damaged_keys import replies
from worker.ledger.job_names import job_names
from worker.ledger.ledger import Ledger
from worker.redis_keys import JobKeys

LOOK_EVERY_S = 1.0
# Of the index of jobs; more than that share nothing among them.
MOST_SHARING = 256
# However many jobs there are, each may have so many pages on their way: no worker waits for a producer.
AT_LEAST = 16


class Share:
    """Counts the jobs that share the queue.

    A job whose producer is gone and whose pages are done takes no part: what counts is pages on their way.
    """

    def __init__(self, ledger: Ledger, job: str) -> None:
        """Look at nothing yet."""
        self._ledger = ledger
        self._job = job
        self._others = 0
        self._looked_at = -LOOK_EVERY_S

    def others(self) -> int:
        """Other jobs with pages on their way; asked once a second."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            names = job_names(self._ledger.client, -MOST_SHARING)
            pipe = self._ledger.client.pipeline(transaction=False)
            for name in names:
                if name != self._job:
                    pipe.hlen(JobKeys.of(name).tasks)
            self._others = sum(bool(count) for count in replies(pipe))
        return self._others

    def in_flight(self) -> int:
        """This job's pages on their way."""
        count: int = self._ledger.client.hlen(JobKeys.of(self._job).tasks)
        return count


def room_in_share(in_flight: int, jobs: int, low: int, high: int) -> int:
    """How many pages a job may send, one of several.

    Args:
        in_flight: its pages on their way.
        jobs: how many share the window.
        low: the window's low mark: where one job alone sends again, up to...
        high: ...its high mark.
    """
    share = max(high // jobs, min(AT_LEAST, high))
    room = share - in_flight
    return room if room * high >= share * (high - low) else 0
