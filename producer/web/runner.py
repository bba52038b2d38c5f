"""Runs the service's open jobs in the background: scan, feed, collect. A thread a job, the same loop as `enqueue`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from producer.errors import ProducerError
from producer.fleet_job import cancel_job
from producer.job.collect import AlreadyCollectingError, Collector
from producer.job.growth import Growth
from producer.job.loop import JobGoneError, JobLoop
from producer.job.manifest import Check, count_manifest, read_manifest, write_manifest
from producer.job.output_folder import FolderBusyError, JobRequest, OutputFolder
from producer.job.results_file import counts_of, truncate_torn_line
from producer.sources.found_page import FoundPage
from producer.sources.passed_over import PassedOver, in_words
from producer.sources.readers import Readers
from producer.sources.remote import scan_everything
from producer.sources.scan_time import ScanTime
from producer.sources.walk import ScanStoppedError
from producer.web.addresses import may_read
from producer.web.bounds.attempts import counted_attempt
from producer.web.bounds.job_turns import JobTurn, JobTurns, Running
from producer.web.bounds.polite_feeder import PoliteFeeder
from producer.web.bounds.room import QuotaUsedError
from producer.web.bounds.scan_turns import ScanTurns
from producer.web.jobs.on_broker import NameTaken, forget_ours, is_anothers, open_ours, ours
from producer.web.jobs.sending import uploader_of
from producer.web.problem import Problem
from producer.web.store import Store, first_of
from producer.web.visitors.questions import NoAnswerError
from worker.broker.damaged_keys import is_damage_of_its_own
from worker.errors import WorkerError
from worker.ledger.ledger import JobReplacedError, Ledger, chunked
from worker.storage.spool import MachineFault, want_of_the_machine

logger = logging.getLogger("ocrfleet.web")
JOBS_AT_A_TIME = 16
QUICK_JOBS_AT_A_TIME = 32
SCANNING = "it looked for pages in these files"
AGAIN_AFTER_S, SOONER_S = 3.0, 1.0
"""Before a job that waits for the broker or the disk tries again; sooner where others wait for its place."""


class _Stopped(Exception):  # noqa: N818  # nothing is wrong
    """The service ends, or the job is deleted: the loop is left where it is, and goes on from there another time."""


class Runner:
    """All open jobs."""

    def __init__(
        self,
        app: Celery,
        ledger: Ledger,
        store: Store,
        *,
        transfer: str,
        roots: tuple[Path, ...],
        check: Check,
        ended: Callable[[str], None] = lambda name: None,
    ) -> None:
        """Start nothing yet.

        Args:
            app: sends the messages.
            ledger: of the same broker.
            store: holds the jobs.
            transfer: ``uri`` or ``redis``.
            roots: folders that jobs given by address may read.
            check: whether there is room for what a job lists.
            ended: told the name of each job that has ended.
        """
        self._app = app
        self._ledger = ledger
        self._store = store
        self._transfer = transfer
        self._roots = roots
        self._check = check
        self._ended = ended
        self._lock = threading.Lock()
        self._running: dict[str, Running] = {}
        self._stopping = threading.Event()
        self._leaving = threading.Condition()  # some job is: its thread may be waiting
        self._turns = {
            False: JobTurns(JOBS_AT_A_TIME, "job"),
            True: JobTurns(QUICK_JOBS_AT_A_TIME, "quick-job"),
        }
        # A zip of 10,000 files costs 6 MB while it is read; eight at a time took 50 MB more than one after the other.
        self._scans = ScanTurns()
        self._feeding = threading.Lock()

    def start(self, name: str) -> JobTurn:
        """Run a job unless it runs already. It `ended` when the job does, or when the service stops."""
        with self._lock:
            running = self._running.get(name)
            if running is None or running.turn is None or running.turn.is_over:
                turns = self._turns[self._store.read(name).quick]
                running = self._running[name] = Running()
                running.turn = turns.begin(partial(self._run, name, running, turns))
            return running.turn

    def running(self, name: str) -> Running | None:
        """The job's thread, None if it has none."""
        return self._running.get(name)

    def count(self) -> int:
        """Jobs that run or wait for their turn."""
        return len(self._running)

    def leave(self, name: str, timeout_s: float = 10.0) -> None:
        """Stop looking after a job. Returns when its thread is out of its files."""
        running = self._running.get(name)
        if running is None or running.turn is None:
            return
        with self._leaving:
            running.stopped = True
            self._leaving.notify_all()
        if not running.turn.leave():
            try:
                running.turn.ended.exception(timeout_s)
            except TimeoutError:
                logger.warning("%s: its thread does not stop", name)
        with self._lock:
            if self._running.get(name) is running:
                del self._running[name]

    @contextmanager
    def left(self, name: str) -> Iterator[None]:
        """Inside, nobody looks after a job; then somebody does again, whatever came, unless it is gone."""
        self.leave(name)
        try:
            yield
        finally:
            with suppress(Problem):
                self.start(name)

    def stop(self) -> None:
        """Leave all jobs as they are, for the next start."""
        self._stopping.set()
        for turns in self._turns.values():
            turns.stop()
        for turns in self._turns.values():
            turns.join()

    def _run(self, name: str, running: Running, turns: JobTurns) -> bool:
        """A job's turn. Whether it wants another, behind those that wait for its place."""
        again = False
        try:
            again = not self._should_stop(running) and not self._run_despite_faults(name, running)
            if again:
                with self._leaving:
                    pause_s = min(SOONER_S, AGAIN_AFTER_S) if turns.in_line else AGAIN_AFTER_S
                    self._leaving.wait_for(lambda: running.stopped, pause_s)
        except _Stopped:
            pass
        finally:
            with self._lock:
                if not again and self._running.get(name) is running:
                    del self._running[name]
        return again

    def _run_despite_faults(self, name: str, running: Running) -> bool:
        """False: the broker or this machine could not; it is to be tried again."""
        try:
            self._run_or_refuse(name, running)
            return True
        except QuotaUsedError as full:
            running.progress.phase = f"waiting: {full}"
        except JobGoneError:  # the broker was emptied, or the time of its keys is up: begin from our own disk
            logger.warning("%s: the broker does not know it any more; fed again", name)
        except (MachineFault, OSError) as error:  # first: a MachineFault is a WorkerError too
            running.progress.phase = f"waiting: {error.strerror or error}"
            logger.error("%s: %s", name, error)
        except (redis.RedisError, OperationalError, WorkerError) as error:
            running.damaged |= is_damage_of_its_own(error) or isinstance(error, JobReplacedError)
            what = "its keys were damaged; fed again" if running.damaged else "waiting for the broker"
            running.progress.phase = what
            logger.warning("%s: %s (%s)", name, what, str(error).split("\n")[0])
        except (AlreadyCollectingError, FolderBusyError) as error:
            running.progress.phase = "waiting for another collector"
            logger.warning("%s: %s", name, error)
        except NameTaken as error:
            running.progress.phase = f"waiting: {error}"
            logger.warning("%s: %s", name, error)
        return False

    def _run_or_refuse(self, name: str, running: Running) -> None:
        """End a job that has a fault of its own; what it is to be tried again for is raised."""
        try:
            if running.damaged and not forget_ours(self._store.folder(name), self._ledger, name):
                raise NameTaken
            running.damaged = False  # now it begins from our own disk
            self._run_once(name, running)
        except (_Stopped, JobGoneError, AlreadyCollectingError, FolderBusyError, NameTaken):
            raise
        except (OSError, redis.RedisError, OperationalError, WorkerError):
            raise
        except Exception as error:
            if isinstance(error, QuotaUsedError) and self._may_wait_for_room(name, running, error):
                raise
            if (fault := want_of_the_machine(error)) is not None:
                raise fault from error
            if isinstance(error, ScanStoppedError) and isinstance(error.__cause__, OSError):
                raise error.__cause__ from None  # of a folder that could not be listed now: a share that went away
            reason = str(error)
            if not isinstance(error, ProducerError):
                logger.exception("%s: a bug in ocrfleet", name)
                reason = f"a bug in ocrfleet: {error!r}"
            if not is_anothers(self._store.folder(name), self._ledger.status(name)):
                self._ledger.cancel(name)  # its workers stop as well
            self.end(name, "refused", reason)

    def _may_wait_for_room(self, name: str, running: Running, full: QuotaUsedError) -> bool:
        running.full_since = running.full_since or time.monotonic()
        listed = self._store.folder(name).manifest.exists()
        lately = time.monotonic() - running.full_since <= self._ledger.ttl_s
        return lately and not full.is_due_to(self._store.taken_by_job(name), listed=listed)

    def end(self, name: str, state: str, reason: str = "") -> None:
        """A job is over."""
        counts = counts_of(self._store.folder(name).results)  # once: of 300 jobs each list read 900 MB for them
        self._store.change(name, state=state, reason=reason, finished=time.time(), counts=counts)
        self._ended(name)

    def _should_stop(self, running: Running) -> bool:
        return running.stopped or self._stopping.is_set()

    def _run_once(self, name: str, running: Running) -> None:
        job, folder = self._store.read(name), self._store.folder(name)
        if job.state != "open":
            return
        known = ours(folder, self._ledger, name)
        if job.cancelled and known is None:
            self.end(name, "cancelled")
            return
        is_cancelled = job.cancelled or (known is not None and known.state == "cancelled")

        def look_up() -> None:
            if self._should_stop(running):
                raise _Stopped
            if not is_cancelled:  # it takes what is done, and ends
                self._check(0)  # results count too: a page may have 300 KB of boxes
            running.full_since = 0.0

        look_up()  # before the results are read
        with folder.locked():
            total = self._manifest(name, folder, running)
            if total == 0:
                reason = "no page could be taken from it" if not job.sources else "no image there"
                self.end(name, "refused", reason)
                return
            running.progress.total = total
            epoch, is_new = open_ours(folder, self._ledger, name, total)
            if job.cancelled:
                cancel_job(self._ledger, name)
            with (
                closing(Growth(folder.manifest, self._ledger, name, total, check=self._check)) as growth,
                uploader_of(self._ledger, self._store, name, job, self._transfer, epoch) as uploader,
                Collector(self._ledger, name, folder.results, total, growth=growth) as collector,
            ):
                growth.write()  # what an interrupted run had not come to
                self._ledger.grow(name, growth.total)
                for ok in (True, False) if is_new else ():
                    for indices in chunked(collector.on_disk(ok=ok)):
                        self._ledger.adopt(name, indices, ok=ok)
                again = partial(read_manifest, folder.manifest)
                feeder = PoliteFeeder(
                    self._app,
                    self._ledger,
                    name,
                    again(),
                    limit_side=job.limit_side,
                    options=job.options,
                    uploader=uploader,
                    epoch=epoch,
                    again=again,
                    urgent=job.quick,
                )
                feeder.turn, feeder.growth = self._feeding, growth
                loop = JobLoop(self._app, self._ledger, name, running.progress, on_tick=look_up, growth=growth)
                loop.feeder, loop.collector = None if is_cancelled else feeder, collector
                status = loop.run()
        self.end(name, "cancelled" if status.state == "cancelled" else "done")

    def _manifest(self, name: str, folder: OutputFolder, running: Running) -> int:
        if folder.manifest.exists():
            truncate_torn_line(folder.manifest)  # a page added later (growth.py), half written
            return count_manifest(folder.manifest)
        job = self._store.read(name)
        sources = job.sources or [str(self._store.uploads(name))]
        folder.save_request(
            JobRequest(job=name, sources=sources, limit_side=job.limit_side, transfer=self._transfer, report=False)
        )

        passed, warnings = PassedOver(), list(running.progress.warnings)

        def look_up() -> None:
            if self._should_stop(running):
                raise _Stopped

        def pages(readers: Readers, scan_time: ScanTime) -> Iterator[FoundPage]:
            def check() -> None:
                look_up()
                scan_time.check_turn()

            for found in scan_everything(
                sources, readers, exclude=None, warn=running.progress.warn, passed=passed, on_request=check
            ):
                check()
                if not job.sources or may_read(found.uri, self._roots):
                    yield found
            look_up()
            scan_time.check_turn(last=True)

        def scan(readers: Readers, scan_time: ScanTime) -> int:
            passed.counts.clear()
            running.progress.warnings[:] = warnings
            running.progress.phase = "counting pages"
            return write_manifest(pages(readers, scan_time), folder.manifest, check=self._check)

        attempt = partial(counted_attempt, folder.private / "scanning", SCANNING)
        whose = name if job.sources else ""
        run = partial(self._scans.run, whose=whose, waited_s=running.waited_s, attempt=attempt)
        try:
            total = run(scan, quick=job.quick, look_up=look_up)
        except NoAnswerError as error:
            running.waited_s = max(running.waited_s, error.waited_s)
            raise
        folder.save_passed_over(passed.counts)
        if said := in_words(passed.counts):
            running.progress.note(said)
        if running.progress.warnings:  # they are told as long as the job is there
            self._store.change(name, warnings=first_of(running.progress.warnings))
        return total
