"""The loop of a job: feed, collect, look after what is stranded, until every page has its record."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from celery import Celery
from kombu.exceptions import OperationalError
from redis import ResponseError

from detector.exit_codes import ExitCode
from producer.errors import ProducerError
from producer.job.collect import Collector
from producer.job.feed import Feeder
from producer.job.growth import Growth
from producer.job.results_file import Line
from producer.job.view import View
from worker.broker.connection import is_full
from worker.ledger.ledger import JobStatus, Ledger
from worker.ledger.reconcile import reconcile

# How often the ledger is asked for stranded pages while this process lives; beat does it for orphaned jobs.
RECONCILE_EVERY_S = 10.0
STATUS_EVERY_S = 0.5
# Records are taken in bundles. Woken by each, the producer would be busy (file, flush, ledger, window) just when the
# worker beside it wants its next page: half a millisecond an image. A fleet takes less than half a window meanwhile.
PAUSE_S = 0.1
# More at once than that: a fleet, or a collector that has to catch up. No pause.
MANY_RECORDS = 64


def pause_s(sent: int, records: int, *, collecting: bool) -> float:
    """Seconds until feeding and collecting are tried again.

    Args:
        sent: messages sent this time.
        records: records collected this time.
        collecting: whether anybody collects here: that waits by itself for a first record.
    """
    if sent or records >= MANY_RECORDS or (collecting and not records):
        return 0.0
    return PAUSE_S


class JobGoneError(ProducerError):
    """The job's keys are no longer on the broker: forgotten, or expired."""

    exit_code = ExitCode.NOTHING


@dataclass
class JobLoop:
    """One job on its way.

    Attributes:
        app: sends again what the ledger finds stranded.
        ledger: where the job's state is.
        job: its name.
        view: shows progress.
        feeder: puts pages on the queue; None for ``collect`` and ``watch``.
        collector: takes records to disk; None for ``enqueue`` and ``watch``.
        until_fed: stop as soon as every page is on the queue.
        on_tick: called several times a second (``run`` looks after its workers there).
        growth: adds pages that the scan missed, if this process has the job's manifest and a feeder.
        peak_rss_mb: the largest peak memory of a worker so far, MiB.
    """

    app: Celery
    ledger: Ledger
    job: str
    view: View
    feeder: Feeder | None = None
    collector: Collector | None = None
    until_fed: bool = False
    on_tick: Callable[[], None] = lambda: None
    growth: Growth | None = None
    peak_rss_mb: float = 0.0
    _last_reconcile: float = field(default_factory=time.monotonic)

    def run(self) -> JobStatus:
        """Go on until the end of the job (or, with ``until_fed``, until all is fed). Returns its last status.

        Raises:
            JobGoneError: the job's keys are no longer there.
        """
        looked = 0.0
        status = self._status()
        while True:
            self.on_tick()
            sent = self.feeder.step() if self.feeder else 0
            lines = self.collector.step(block_ms=0 if sent else 100) if self.collector else []
            for line in lines:
                self.peak_rss_mb = max(self.peak_rss_mb, line.peak_rss_mb)
            self.grow(lines)
            now = time.monotonic()
            if lines or now - looked > STATUS_EVERY_S:
                looked, status = now, self._status()
                self.view.update(status.done, status.failed, self.peak_rss_mb, self._phase(status))
                if self._at_end(status):
                    return status
            if now - self._last_reconcile > RECONCILE_EVERY_S and status.state == "open":
                self._last_reconcile = now
                self._reconcile()
            time.sleep(pause_s(sent, len(lines), collecting=self.collector is not None))

    def grow(self, lines: list[Line]) -> None:
        """Add the pages that these records say are missing, and those noted before."""
        if self.growth is None:
            return
        for line in lines:
            self.growth.note(line)
        if added := self.growth.write():
            self.view.total = self.growth.total
            if self.feeder:
                self.feeder.go_on(added)

    def _reconcile(self) -> None:
        try:
            reconcile(self.app, self.ledger, self.job)
        except (ResponseError, OperationalError) as error:
            # Nothing can be sent again through a full broker; collecting, which empties it, goes on.
            if not is_full(error):
                raise

    def _status(self) -> JobStatus:
        status = self.ledger.status(self.job)
        if status is None:
            raise JobGoneError(f"there is no job {self.job} on this broker (forgotten, or expired)")
        return status

    def _at_end(self, status: JobStatus) -> bool:
        if self.until_fed:
            return self.feeder is None or self.feeder.exhausted
        if status.state == "cancelled":
            return status.uncollected == 0 or self.collector is None
        return status.finished and (self.collector is None or status.uncollected == 0)

    def _phase(self, status: JobStatus) -> str:
        if status.state == "cancelled":
            return "cancelled"
        if self.feeder and self.feeder.waiting:
            return self.feeder.waiting
        if status.done == 0:
            return "waiting for workers"
        if self.feeder and not self.feeder.exhausted:
            return "feeding"
        return "collecting" if status.finished else "working"
