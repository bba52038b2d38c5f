"""The loop of a job: feed, collect, look after what is stranded, until every page has its record."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

import redis
from celery import Celery
from kombu.exceptions import OperationalError
from redis import ResponseError

from detector.exit_codes import ExitCode
from producer.errors import ProducerError
from producer.job.collect import Collector
from producer.job.feed import Feeder
from producer.job.growth import Growth
from producer.job.results_file import Line
from producer.job.view import COLLECTING, FEEDING, WAITING, WORKING, View
from worker.broker.connection import is_failing_over, is_full, takes_no_writes
from worker.broker.damaged_keys import is_damage_of_its_own
from worker.ledger.comparison import Comparison
from worker.ledger.ledger import JobReplacedError, JobStatus, Ledger
from worker.ledger.reconcile import every_s, reconcile
from worker.ops import worker_registry
from worker.ops.diagnosis import diagnosis, look_around
from worker.settings import LEASE_S

logger = logging.getLogger(__name__)
# How often the ledger is asked for stranded pages while this process lives; beat does it for orphaned jobs.
RECONCILE_EVERY_S = 10.0
STATUS_EVERY_S = 0.5
PRESENCE_EVERY_S = 2.0
# A job that is fed, collected or watched lives on, however slow it is.
TOUCH_EVERY_S = 5.0
# A job that has not moved for so long is worth asking why, and how often.
STILL_S = 10.0
# Then it is compared with what is on disk, too: what was written into it once may hold it for ever.
COMPARE_AFTER_S = 30.0
LOST = "its record got lost, or was none, each time it was done: see .ocrfleet/quarantine.jsonl beside the results"
# A broker that is restarted or moved is back within minutes, and its producer goes on as its workers do.
BROKER_PATIENCE_S = 600.0
BROKER_PAUSE_S = 1.0
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


def passes(error: Exception) -> bool:
    """Whether a broker that says so, or nothing, is likely to go on by itself.

    It is gone, or in a failover. Its disk or its memory is full until somebody makes room, who must be told at once;
    what it refuses for other reasons it will refuse again.
    """
    if takes_no_writes(error):
        return is_failing_over(error)
    return not isinstance(error.__cause__ or error, ResponseError)


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
        patience_s: how long a broker may be away before that is an error.
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
    patience_s: float = BROKER_PATIENCE_S
    _last_reconcile: float = field(default_factory=time.monotonic)
    _done: int | None = None
    _progress_at: float = 0.0
    _presence_at: float = -math.inf
    _present: bool = False
    _last_touch: float = 0.0
    _looked: float = 0.0
    _last_why: float = 0.0
    _why: str = ""
    _moved_at: float = field(default_factory=time.monotonic)
    _moved: tuple[int, ...] = ()
    _comparison: Comparison | None = None
    _last: JobStatus = field(init=False)

    def run(self) -> JobStatus:
        """Go on until the end of the job (or, with ``until_fed``, until all is fed). Returns its last status.

        Raises:
            JobGoneError: the job's keys are no longer there.
            redis.ConnectionError: the broker was away for longer than ``patience_s``.
        """
        self._last = self._status()
        gone_since: float | None = None
        while True:
            try:
                self.on_tick()
                ended = self._turn_despite_damage()
                gone_since = None
            except (redis.ConnectionError, redis.TimeoutError, OperationalError, ResponseError) as error:
                if not passes(error):
                    raise
                now = time.monotonic()
                gone_since = gone_since or now
                if now - gone_since > self.patience_s:
                    raise
                what = "waiting until the broker takes writes" if is_failing_over(error) else "waiting for the broker"
                self.view.update(self._last.done, self._last.failed, self.peak_rss_mb, what)
                time.sleep(BROKER_PAUSE_S)
                continue
            if ended is not None:
                return ended

    def _turn_despite_damage(self) -> JobStatus | None:
        try:
            return self._turn()
        except JobReplacedError:  # unless only its epoch was written
            if not self._put_epoch_right():
                raise
        except ResponseError as error:
            if not is_damage_of_its_own(error) or not self._compare(self._status()):
                raise
        return None

    def _turn(self) -> JobStatus | None:
        """Feed and collect once. Returns the job's status if that was the last time."""
        sent = self.feeder.step() if self.feeder else 0
        lines = self.collector.step(block_ms=0 if sent else 100) if self.collector else []
        for line in lines:
            self.peak_rss_mb = max(self.peak_rss_mb, line.peak_rss_mb)
        self.grow(lines)
        now = time.monotonic()
        if lines or sent:
            self._moved_at = now
        if lines or now - self._looked > STATUS_EVERY_S:
            self._looked, self._last = now, self._status()
            status = self._last
            self.view.update(status.done, status.failed, self.peak_rss_mb, self._phase(status))
            if self._at_end(status):
                return status
            if self.feeder and status.unfed and status.state == "open":
                self.feeder.look_again()
            if self._stands_still(now, status):
                self._compare(status)
        if now - self._last_touch > TOUCH_EVERY_S:
            self._last_touch = now
            self.ledger.touch(self.job, feeding=self.feeder is not None and self.feeder.feeds_all)
        every = min(RECONCILE_EVERY_S, every_s(self.ledger.lease_s))
        if now - self._last_reconcile > every and self._last.state == "open":
            self._last_reconcile = now
            self._reconcile()
        time.sleep(pause_s(sent, len(lines), collecting=self.collector is not None))
        return None

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
        return self._put_right(status)

    def _put_right(self, status: JobStatus) -> JobStatus:
        """Who has the manifest and collects knows how many pages there are; another number held the job for ever.

        Where another machine collects, it may have told of more than the manifest has, and never of fewer.
        """
        self._comparison = self._comparison or Comparison(self.ledger, self.job, status)
        if status.epoch != self._comparison.epoch:
            if self.growth is None and self._comparison.tasks_tell(status.epoch):
                # What stood there when this process, which has no list, began was what somebody had written.
                self._comparison = Comparison(self.ledger, self.job, status)
            elif self._put_epoch_right():
                status = status._replace(epoch=self._comparison.epoch)
        if self.growth is None:
            return status
        if self.collector is None:
            if self.feeder is not None and self.feeder.feeds_all and status.total < self.growth.total:
                self.growth.refuse_if_inherited()
                self.ledger.grow(self.job, self.growth.total)
                return status._replace(total=self.growth.total)
            return status
        self.view.total = self.growth.put_right(status.total)
        return status._replace(total=self.view.total)

    def _put_epoch_right(self) -> bool:
        """Whether it was wrong.

        Raises:
            JobReplacedError: and it is another job.
        """
        looks_only = self.feeder is None and self.collector is None
        return not looks_only and self._comparison is not None and self._comparison.put_identity_right()

    def _at_end(self, status: JobStatus) -> bool:
        if self.until_fed:
            return self.feeder is None or self.feeder.exhausted
        if status.state == "cancelled":
            return status.uncollected == 0 or self.collector is None
        if not status.finished or (self.collector is not None and status.uncollected):
            return False
        if self.growth is None and self.collector and 0 < status.in_flight > status.total - status.done:
            more = not all(map(self.collector.holds, self.ledger.in_flight(self.job)))
        else:
            more = False
        if more or self._compare(status):  # more: of a number that somebody made smaller
            return False
        if self.collector is None or not self._is_producer:
            return True
        return self.collector.count >= (status.total if self.growth is None else min(status.total, self.growth.total))

    @property
    def _is_producer(self) -> bool:
        """Whether the job's pages and all its records are here: what has none here has none."""
        return self.feeder is not None and self.feeder.feeds_all and self.collector is not None

    def _stands_still(self, now: float, status: JobStatus) -> bool:
        """Whether nothing moved for a while. By this machine's clock: times in Redis are anybody's."""
        moved = (status.ok, status.failed, status.in_flight, status.uncollected)
        if moved != self._moved:
            self._moved, self._moved_at = moved, now
        if now - self._moved_at < COMPARE_AFTER_S or self.until_fed or status.state == "cancelled":
            return False
        self._moved_at = now
        return True

    def _compare(self, status: JobStatus) -> bool:
        """Put right what differs from the records on disk (worker/ledger/comparison.py). Returns whether any did."""
        collector, growth, feeder = self.collector, self.growth, self.feeder
        if self._comparison is None or (collector is None and growth is None):
            return False
        pages = collector.total if collector is not None else growth.total if growth is not None else 0
        found = self._comparison.put_right(
            status,
            None if collector is None else collector.letters,
            pages=pages,
            all_pages=growth is not None and collector is not None and pages == status.total,
            redo=self._is_producer,
            before=self._may_change,
        )
        if feeder is not None and growth is not None:
            for index in found.lost:
                for line in islice(growth.lines(index), 1):
                    feeder.refuse(line, "Internal", LOST)
            if found.unfed >= 0:
                feeder.feed_again(growth.lines(found.unfed))
        if found.wrong:
            logger.warning("%s: its keys in Redis were not as its records on disk; put right", self.job)
        return found.wrong

    def _may_change(self) -> None:
        if self.collector is not None:
            self.collector.keep()
        if self.growth is not None:
            self.growth.refuse_if_inherited()

    def _why_still(self, status: JobStatus) -> str:
        """What keeps the job from moving; looked for only while it does not, and not at every turn."""
        now = time.monotonic()
        if status.now_s - max(status.progress_s, status.created_s) < STILL_S:
            self._why = ""
        elif now - self._last_why > STILL_S:
            self._last_why, self._why = now, diagnosis(status, look_around(self.ledger))
        return self._why

    def _phase(self, status: JobStatus) -> str:
        if status.state == "cancelled":
            return "cancelled"
        if self.feeder and self.feeder.waiting:
            return self.feeder.waiting
        if why := self._why_still(status):
            return why
        if not status.finished and not self._workers_alive(status):
            return WAITING
        if self.feeder and not self.feeder.exhausted:
            return FEEDING
        return COLLECTING if status.finished else WORKING

    def _workers_alive(self, status: JobStatus) -> bool:
        """Whether records came of late, or a worker has reported. Asked of the broker now and then only."""
        now = time.monotonic()
        if status.done != self._done:
            # The first look only says how many there were before.
            self._done, self._progress_at = status.done, self._progress_at if self._done is None else now
        if self._progress_at and now - self._progress_at < LEASE_S:
            return True
        if now - self._presence_at >= PRESENCE_EVERY_S:
            self._presence_at, self._present = now, worker_registry.alive(self.ledger.client, self.ledger.now()) > 0
        return self._present
