"""What the service does with jobs, without HTTP: accept, tell, retry, cancel, delete."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import redis
from celery import Celery

from producer.fleet_job import cancel_job
from producer.job.begin_again import retry_on_broker
from producer.job.output_folder import FolderBusyError, OutputFolder
from producer.job.results_file import drop_failed
from producer.job.status import StatusRow
from producer.web.addresses import check_addresses
from producer.web.bounds.answers import ReadPlaces
from producer.web.bounds.job_locks import JobLocks, on_our_own, one_after_the_other
from producer.web.bounds.makings import Makings
from producer.web.jobs import entries
from producer.web.jobs.on_broker import forget_ours, ours
from producer.web.jobs.told import told_of
from producer.web.problem import Problem, no_such_job, quota_is_used
from producer.web.runner import Runner
from producer.web.settings import WebSettings
from producer.web.store import Store, WebJob
from producer.web.visitors.broker import for_visitors
from producer.web.webhooks.courier import Courier, Letter, delivery_of
from worker.broker import queue
from worker.ledger.ledger import MOST_LOOKED_AT, Ledger, chunked
from worker.ops import worker_registry
from worker.redis_url import is_local
from worker.settings import Settings

MOST_URL = 2048
# Results that need the pictures again: a process with up to 800 MiB for each request.
OPENING_AT_ONCE = 2
# Converted results on their way to clients, which may read them slowly: each is a file, as large as the job's results.
EXPORTS_AT_ONCE = 6
WORKERS_LOOK_S = 2.0
BUSY_MEMORY = 0.8  # of Redis's maxmemory: the feeder stops there too


class Service:
    """All of it: the broker, the folders, the threads."""

    def __init__(self, app: Celery, ledger: Ledger, settings: Settings, web: WebSettings) -> None:
        """Connect nothing; make the folders."""
        self.app = app
        self.ledger = for_visitors(ledger, settings.redis_url)
        self.settings = settings
        self.web = web
        self.store = Store(web.folder)
        transfer = web.transfer if web.transfer != "auto" else "uri" if is_local(settings.redis_url) else "redis"
        self.courier = Courier(web.webhooks, self._letter_of, self._note_told)
        self.runner = Runner(
            app, ledger, self.store, transfer=transfer, roots=settings.roots,
            check=self.store.room.check(web.quota_bytes), ended=self._tell_who_waits,
        )  # fmt: skip
        self.opening = threading.Semaphore(OPENING_AT_ONCE)
        self.exporting = ReadPlaces(EXPORTS_AT_ONCE)
        self.makings = Makings()
        self.changing = JobLocks()
        self.stopping = False
        self._workers, self._alive_at = 0, float("-inf")

    def resume(self) -> int:
        """After a start: end deletions that were begun, go on with all open jobs. Returns how many."""
        self.store.clean()
        waiting = [name for name in reversed(self.store.names()) if self.store.read(name).state == "open"]
        for name in waiting:
            self.runner.start(name)
        for name in self.store.names():
            if self.store.read(name).finished:
                self._tell_who_waits(name)
        return len(waiting)

    def stop(self) -> None:
        """Leave everything as it is, for the next start."""
        self.makings.stop()
        self.runner.stop()
        self.courier.stop()

    def _tell_who_waits(self, name: str) -> None:
        job = self.store.read(name)
        if job.webhook and not job.told:
            self.courier.add(name)

    def _letter_of(self, name: str) -> Letter | None:
        """What a job's webhook is told of its end."""
        try:
            job = self.store.read(name)
            if not job.finished or job.told:
                return None
            body = {"type": f"job.{job.state}", "timestamp": job.finished, "data": self.status(name)}
        except Problem:  # deleted
            return None
        return Letter(job.webhook, delivery_of(name, job.finished), msgspec.json.encode(body))

    def _note_told(self, name: str, delivery: str, outcome: str) -> None:
        """Of the end that was told alone: a job that was tried again meanwhile has another, which is told as well."""
        with suppress(Problem):  # deleted
            self.store.change(
                name, told=outcome, only=lambda job: job.finished and delivery in ("", delivery_of(name, job.finished))
            )

    def check_webhook(self, url: str) -> str:
        """An address that is told when a job has ended.

        Raises:
            Problem: its host is not one of OCRFLEET_WEBHOOK_HOSTS.
        """
        if url and (len(url) > MOST_URL or self.web.webhooks.receiver(url) is None):
            raise Problem(
                403,
                "webhook: its host is not one of OCRFLEET_WEBHOOK_HOSTS, or it is not https",
                "have the host added there, or wait for the job with GET /jobs/{job}/events",
            )
        return url

    def check_room(self) -> None:
        """Whether something may be uploaded.

        Raises:
            Problem: 503 while the broker is away or full, 413 when the quota is used up.
        """
        try:
            memory = self.ledger.client.info("memory")
        except (redis.RedisError, OSError):
            raise Problem(503, "the broker does not answer", "try again; see /readyz", retry_after_s=10) from None
        used, most = memory["used_memory"], memory.get("maxmemory", 0)
        if most and used > BUSY_MEMORY * most:
            raise Problem(503, "the broker's memory is full", "try again when results are collected", retry_after_s=30)
        self.store.check_places()
        self.check_quota()

    def check_quota(self) -> None:
        """Whether the folder may grow.

        Raises:
            Problem: 413.
        """
        if self.store.room.used() >= self.web.quota_bytes:
            raise quota_is_used(self.web.quota_mb)

    def check_taken(self) -> None:
        """Whether what is being made may go on: what others only say that they will send does not end it.

        Raises:
            Problem: 413.
        """
        room = self.store.room
        if room.used() >= self.web.quota_bytes and not room.is_promised(self.web.quota_bytes, 1):
            raise quota_is_used(self.web.quota_mb)

    def new_name(self, idempotency_key: str = "", *, quick: bool = False) -> str:
        """A job's name; the same for the same key."""
        if idempotency_key:
            if len(idempotency_key) > 255:
                raise Problem(400, "the Idempotency-Key has more than 255 characters", "send a UUID")
            before = f"web-{hashlib.sha256(idempotency_key.encode()).hexdigest()[:32]}"
            if self.store.has(before):  # of a version whose names were the same on each page of a broker
                return before
            return f"web-{hashlib.sha256(f'{self.store.own_word()} {idempotency_key}'.encode()).hexdigest()[:32]}"
        kind = "detect" if quick else "web"
        return f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(4).hex()}"

    def check_sources(self, addresses: object) -> list[str]:
        """Addresses of a job, as the scan takes them (see `producer.web.addresses`)."""
        settings = self.settings
        return check_addresses(addresses, settings.roots, settings.url_roots, settings.named_roots)

    def accept(self, folder: Path, name: str, job: WebJob) -> bool:
        """Make a job of an upload and start it. False: there was one of this name (the upload is removed).

        Raises:
            Problem: 422, something else was sent with the same Idempotency-Key; 429, that job is being deleted.
            OSError: see `Store.accept`.
        """
        if not self.store.accept(folder, name, job):
            before = None
            with suppress(Problem):  # deleted
                before = self.store.read(name).fingerprint
            if before is None or self.changing.is_deleted(name):
                raise Problem(429, "the job of this key was being deleted", "send it again", retry_after_s=1)
            if before and before != job.fingerprint:  # empty: of a version that did not keep it
                raise Problem(
                    422,
                    "this Idempotency-Key was used with other files or settings",
                    "send each job with a key of its own; the same key only to send the same again",
                )
            return False
        self.runner.start(name)
        return True

    def status(self, name: str) -> dict[str, Any]:
        """How a job stands, as the API tells it.

        Raises:
            Problem: 404.
        """
        job, folder = self.store.read(name), self.store.folder(name)
        running = self.runner.running(name)
        progress = running.progress if running else None
        try:
            return told_of(name, job, folder, progress, self._row(name, folder), self._alive())
        except FileNotFoundError:  # it is being deleted
            raise no_such_job(name) from None

    def _row(self, name: str, folder: OutputFolder | None = None) -> StatusRow | None:
        try:
            status = self.ledger.status(name) if folder is None else ours(folder, self.ledger, name)
        except (redis.RedisError, OSError):
            return None
        return None if status is None else StatusRow.of(status)

    def _alive(self) -> int:
        try:
            return self.workers_alive()
        except (redis.RedisError, OSError):
            return 0

    def workers_alive(self) -> int:
        """Workers that have reported lately, by the broker's clock, as their reports are.

        Raises:
            redis.RedisError: no answer.
        """
        now = time.monotonic()
        if now - self._alive_at > WORKERS_LOOK_S:
            self._workers = worker_registry.alive(self.ledger.client, self.ledger.now())
            self._alive_at = now
        return self._workers

    def jobs(self, limit: int, offset: int = 0) -> Iterator[dict[str, Any]]:
        """Our jobs, newest first, then the newest 1,000 of others on this broker: `limit` from `offset` on."""
        names = self.store.names()
        end = min(offset + limit, len(names) + MOST_LOOKED_AT)
        # What was not taken, and what warned, is told of each job alone: of a thousand it was 95 MB.
        brief: dict[str, Any] = {"skipped": {}, "warnings": []}
        for name in names[offset:end]:
            with suppress(Problem):  # deleted meanwhile
                yield self.status(name) | brief
        others = list[str]()
        if end > len(names):
            known = set(names)
            with suppress(redis.RedisError, OSError):
                others = [name for name in reversed(self.ledger.jobs(end)) if name not in known]
        for name in others[max(0, offset - len(names)) : max(0, end - len(names))]:
            if (row := self._row(name)) is not None:
                yield {**asdict(row), "title": name, "own": False}

    def pages(self, name: str, offset: int, limit: int) -> list[dict[str, Any]]:
        """Pages of a job and where each is on its way."""
        return entries.pages(self.store, self.ledger.client, name, offset, limit)

    def failures(self, name: str, limit: int, offset: int = 0, skipped: int = 0) -> Iterator[dict[str, Any]]:
        """Uploads that were not taken, from `skipped` on, then failed pages, from `offset` on."""
        return entries.failures(self.store, name, limit, offset, skipped)

    @one_after_the_other
    def retry(self, name: str) -> int:
        """Do the failed pages again, and those that a cancelled job left. Returns how many failed ones."""
        if self.store.read(name).state == "refused":
            raise Problem(409, f"job {name} was refused: {self.store.read(name).reason}", "send its files again")
        folder = self.store.folder(name)
        with self.runner.left(name):
            self.store.change(name, state="open", finished=0.0, told="", cancelled=False, counts={})
            if ours(folder, self.ledger, name) is not None:
                self.ledger.reopen(name)
                return retry_on_broker(self.ledger, name)
            try:
                with folder.locked():
                    return len(drop_failed(folder.results)) if folder.results.exists() else 0
            except FolderBusyError:
                raise Problem(409, f"job {name} is still at work", "try again in a moment") from None

    @one_after_the_other
    def cancel(self, name: str) -> int:
        """What waits is dropped, what runs is finished, what is done stays. Returns how many pages were dropped."""
        folder = self.store.folder(name)
        try:
            if self.store.change(name, cancelled=True, only=_is_open).state != "open":
                return 0
        except OSError:  # a disk that is full; where the broker keeps the wish, it need not
            if ours(folder, self.ledger, name) is None:
                raise
        try:
            if ours(folder, self.ledger, name) is not None:
                return cancel_job(self.ledger, name)
        except redis.RedisError:
            with self.runner.left(name):  # its next turn sees what was asked for
                raise
        with self.runner.left(name):  # still counting its pages
            self.runner.end(name, "cancelled")
        return 0 if ours(folder, self.ledger, name) is None else cancel_job(self.ledger, name)  # they came meanwhile

    def _delete(self, name: str) -> None:
        """Remove a job: its uploads, its results, its keys."""
        folder = self.store.folder(name)
        self.makings.end(name)
        with self.changing.deletion(name), self.runner.left(name):
            if forget_ours(folder, self.ledger, name):
                queue.drop_job(self.ledger.client, name)
            self.store.throw_away(name)
        self.makings.end(name)  # what was begun before it was out of sight

    def _delete_old(self, name: str, limit: float) -> None:
        """As `_delete`, unless it did not end before `limit`: it was tried again since somebody looked, say."""
        if 0 < self.store.read(name).finished < limit:
            self._delete(name)

    delete, delete_own, delete_old = one_after_the_other(_delete), on_our_own(_delete), on_our_own(_delete_old)

    def expire(self, now: float) -> int:
        """Delete jobs whose time is up. Returns how many."""
        self.store.drop_left()
        limit = now - self.settings.result_ttl_h * 3600
        old = [job for job, kept in self.store.all() if 0 < kept.finished < limit]
        for name in old:
            if not self.delete_old(name, limit):
                break
        return len(old)

    def recover_private(self) -> None:
        """After a start of a private server: its queue holds messages of workers that are gone."""
        from worker.messages import decode_task

        queue.purge(self.ledger.client)
        for name in self.ledger.jobs():
            self.ledger.expire_leases(name)
            for indices in chunked(self.ledger.in_flight(name)):
                for index in indices:
                    if data := self.ledger.reclaim(name, index):
                        queue.send(self.app, decode_task(data))


def _is_open(job: WebJob) -> bool:
    return job.state == "open"
