"""One job of the service uploads at a time."""

from __future__ import annotations

import threading

from producer.job.feed import Feeder
from producer.job.growth import Growth


class PoliteFeeder(Feeder):
    """Feeds when no other job does: up to 4 MB of pages are in memory while they go to Redis."""

    turn: threading.Lock
    growth: Growth

    def step(self) -> int:
        """See Feeder; 0 too while it is another job's turn."""
        # One picture somebody waits for; 3,000 pages of one file, found now or later, would keep all others waiting.
        self._urgent = self._urgent and self.growth.total <= 1
        if not self.turn.acquire(blocking=False):
            return 0
        try:
            return super().step()
        finally:
            self.turn.release()
