"""Backpressure: pages go on the queue only while queue + unacknowledged stay inside a window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from celery import Celery

from producer.manifest import ManifestLine
from worker import queue
from worker.ledger import JobKeys, Ledger
from worker.messages import ImageTask


@dataclass(frozen=True, slots=True)
class Window:
    """How much may wait in Redis.

    Attributes:
        low: below this many messages (waiting + unacknowledged, of all jobs), feed...
        high: ...up to this many. Enough that no worker of a fleet of 50 waits for the producer; at about 1.5 KB a
            message, half a megabyte of Redis.
        uncollected: stop feeding while this many records wait to be collected: at about 1-2 KB a record they, not
            the queue, are what would fill Redis.
    """

    low: int = 128
    high: int = 256
    uncollected: int = 20_000


class Feeder:
    """Feeds one job. Call :meth:`step` often; it never blocks for longer than a few messages take.

    Attributes:
        exhausted: every page of the manifest has been fed.
        waiting_for_collector: feeding pauses since nobody collects the results.
        sent: messages sent by this object.
    """

    def __init__(
        self,
        app: Celery,
        ledger: Ledger,
        job: str,
        manifest: Iterable[ManifestLine],
        *,
        limit_side: int = 0,
        window: Window | None = None,
    ) -> None:
        self._app = app
        self._ledger = ledger
        self._job = job
        self._lines: Iterator[ManifestLine] = iter(manifest)
        self._limit_side = limit_side
        self._window = window or Window()
        self.exhausted = False
        self.waiting_for_collector = False
        self.sent = 0

    def step(self) -> int:
        """Send what the window has room for. Returns how many messages were sent."""
        if self.exhausted:
            return 0
        client = self._ledger.client
        room = self._window.high - sum(queue.depth(client))
        if room < self._window.high - self._window.low:
            return 0
        uncollected = client.xlen(JobKeys.of(self._job).results)
        self.waiting_for_collector = uncollected >= self._window.uncollected
        if self.waiting_for_collector:
            return 0
        sent = 0
        while sent < room:
            lines = list(islice(self._lines, min(room - sent, 64)))
            if not lines:
                self.exhausted = True
                break
            sent += self._feed(lines)
        self.sent += sent
        return sent

    def _feed(self, lines: list[ManifestLine]) -> int:
        tasks = [
            ImageTask(
                job=self._job,
                index=line.index,
                image=line.image,
                uri=line.uri,
                page=line.page,
                limit_side=self._limit_side,
            )
            for line in lines
        ]
        # First the ledger, then the queue: a crash in between leaves a page the reconciler finds, never a page that
        # is sent twice by us.
        fresh = set(self._ledger.feed(tasks))
        for task in tasks:
            if task.index in fresh:
                queue.send(self._app, task)
        return len(fresh)
