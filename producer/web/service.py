"""What the service does with jobs, without HTTP: accept, tell, retry, cancel, delete."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import redis
from celery import Celery

from producer.fleet_job import cancel_job
from producer.job.begin_again import retry_on_broker
from producer.job.manifest import read_manifest
from producer.job.output_folder import FolderBusyError
from producer.job.results_file import counts_of, drop_failed, failed_lines
from producer.job.status import StatusRow
from producer.web.addresses import check_addresses
from producer.web.bounds.answers import ReadPlaces
from producer.web.bounds.job_locks import JobLocks, on_our_own, one_after_the_other
from producer.web.bounds.makings import Makings
from producer.web.problem import Problem, quota_is_used
from producer.web.results import file_name
from producer.web.runner import Runner
from producer.web.settings import WebSettings
from producer.web.store import Store, WebJob, few, first_of
from producer.web.webhooks.courier import Courier, Letter, delivery_of
from worker.broker import queue
from worker.ledger.ledger import MOST_LOOKED_AT, Ledger, chunked
from worker.redis_keys import JobKeys
from worker.redis_url import is_local
from worker.settings import Settings

STATE_NAMES = {0: "waiting", ord("q"): "queued", ord("r"): "running", ord("o"): "ok", ord("f"): "failed"}
MOST_URL = MOST_SHOWN = 2048
# Results that need the pictures again: a process with up to 800 MiB for each request.
OPENING_AT_ONCE = 2
# Converted results on their way to clients, which may read them slowly: each is a file, as large as the job's results.
EXPORTS_AT_ONCE = 6
BUSY_MEMORY = 0.8  # of Redis's maxmemory: the feeder stops there too


class Service:
    """All of it: the broker, the folders, the threads."""

    def __init__(self, app: Celery, ledger: Ledger, settings: Settings, web: WebSettings) -> None:
        """Connect nothing; make the folders."""
        self.app = app
        self.ledger = ledger
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

    def resume(self) -> int:
        """After a start: end deletions that were begun, go on with all open jobs. Returns how many."""
        for name in self.store.clean():
            self._forget(name)
            self.store.throw_away(name)
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

    def new_name(self, idempotency_key: str = "", *, quick: bool = False) -> str:
        """A job's name; the same for the same key."""
        if idempotency_key:
            if len(idempotency_key) > 255:
                raise Problem(400, "the Idempotency-Key has more than 255 characters", "send a UUID")
            return f"web-{hashlib.sha256(idempotency_key.encode()).hexdigest()[:32]}"
        kind = "detect" if quick else "web"
        return f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(4).hex()}"

    def check_sources(self, addresses: object) -> list[str]:
        """Addresses of a job, as the scan takes them (see `producer.web.addresses`)."""
        settings = self.settings
        return check_addresses(addresses, settings.roots, settings.url_roots, settings.named_roots)

    def accept(self, folder: Path, name: str, job: WebJob) -> bool:
        """Make a job of an upload and start it. False: there was one of this name (the upload is removed).

        Raises:
            Problem: 422, something else was sent with the same Idempotency-Key.
            OSError: see `Store.accept`.
        """
        if not self.store.accept(folder, name, job):
            before = self.store.read(name).fingerprint
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
        row = self._row(name)
        alive = self._alive()
        state = job.state
        if state == "open" and row is None:
            state = "preparing"
        size = folder.results.stat().st_size if folder.results.exists() else 0
        answer: dict[str, Any] = {
            "job": name, "title": job.title[:MOST_SHOWN], "state": state, "reason": job.reason[:MOST_SHOWN],
            "created": job.created, "finished": job.finished or None, "files": job.files, "skipped": few(job.skipped),
            "limit_side": job.limit_side, "total": None, "ok": 0, "failed": 0, "in_flight": 0,
            "images_per_second": 0.0, "eta_seconds": None,
            "workers_alive": alive, "phase": running.progress.phase if running and job.state == "open" else "",
            "warnings": first_of(running.progress.warnings if running else []), "results_bytes": size,
            "results_file": file_name(folder.results), "own": True, "webhook": job.webhook,
            "told": job.told[:MOST_SHOWN],
        }  # fmt: skip
        if row is not None:
            counts = asdict(row)
            answer |= {key: counts[key] for key in ("total", "ok", "failed", "in_flight", "images_per_second")}
            answer["eta_seconds"] = row.eta_seconds if alive and job.state == "open" else None
        elif job.state in ("done", "cancelled"):
            answer |= counts_of(folder.results)
        if job.state == "open" and not alive and state != "preparing":
            answer["phase"] = "waiting for workers: none is alive"
        return answer

    def _row(self, name: str) -> StatusRow | None:
        try:
            status = self.ledger.status(name)
        except (redis.RedisError, OSError):
            return None
        return None if status is None else StatusRow.of(status)

    def _alive(self) -> int:
        try:
            return self.runner.workers_alive()
        except (redis.RedisError, OSError):
            return 0

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
        folder = self.store.folder(name)
        if not folder.manifest.exists():
            return []
        try:
            states = self.ledger.client.getrange(JobKeys.of(name).state, offset, offset + limit - 1)
        except (redis.RedisError, OSError):
            states = b""
        lines = islice(read_manifest(folder.manifest, offset), limit)
        return [
            {
                "index": line.index, "image": line.image[:MOST_SHOWN], "page": line.page,
                "state": STATE_NAMES.get(states[place] if place < len(states) else 0, "waiting"),
            }
            for place, line in enumerate(lines)
        ]  # fmt: skip

    def failures(self, name: str, limit: int, offset: int = 0, skipped: int = 0) -> Iterator[dict[str, Any]]:
        """Uploads that were not taken, from `skipped` on, then failed pages, from `offset` on."""
        for image, reason in islice(self.store.read(name).skipped.items(), skipped, None):
            yield {"index": None, "image": image, "page": 0, "type": "NotTaken", "message": reason}
        results = self.store.folder(name).results
        if not results.exists():
            return
        for line, error in islice(failed_lines(results), offset, offset + limit):
            yield {
                "index": line.index, "image": line.image[:MOST_SHOWN], "page": line.page, "type": error.type,
                "message": error.message[:MOST_SHOWN].replace(f"{self.store.uploads(name)}/", ""),
            }  # fmt: skip

    @one_after_the_other
    def retry(self, name: str) -> int:
        """Do the failed pages again, and those that a cancelled job left. Returns how many failed ones."""
        if self.store.read(name).state == "refused":
            raise Problem(409, f"job {name} was refused: {self.store.read(name).reason}", "send its files again")
        self.runner.leave(name)
        self.store.change(name, state="open", finished=0.0, told="")
        try:
            if self.ledger.status(name) is not None:
                self.ledger.reopen(name)
                return retry_on_broker(self.ledger, name)
            with (folder := self.store.folder(name)).locked():
                return len(drop_failed(folder.results)) if folder.results.exists() else 0
        except FolderBusyError:
            raise Problem(409, f"job {name} is still at work", "try again in a moment") from None
        finally:
            self.runner.start(name)  # whatever came: it is marked open

    @one_after_the_other
    def cancel(self, name: str) -> int:
        """What waits is dropped, what runs is finished, what is done stays. Returns how many pages were dropped."""
        if self.store.read(name).state != "open":
            return 0
        if self.ledger.status(name) is None:  # still counting its pages
            self.runner.leave(name)
            self.runner.end(name, "cancelled")
            return 0
        return cancel_job(self.ledger, name)

    def _delete(self, name: str) -> None:
        """Remove a job: its uploads, its results, its keys."""
        self.store.folder(name)
        self.makings.end(name)
        self.runner.leave(name)
        self.ledger.cancel(name)
        self._forget(name)
        self.store.throw_away(name)
        self.makings.end(name)  # what was begun before it was out of sight

    delete, delete_own = one_after_the_other(_delete), on_our_own(_delete)

    def _forget(self, name: str) -> None:
        self.ledger.forget(name)
        queue.drop_job(self.ledger.client, name)

    def expire(self, now: float) -> int:
        """Delete jobs whose time is up. Returns how many."""
        self.store.drop_left()
        limit = now - self.settings.result_ttl_h * 3600
        old = [job for job, kept in self.store.all() if 0 < kept.finished < limit]
        for name in old:
            if not self.delete_own(name):
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
