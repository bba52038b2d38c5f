r"""A job's state in Redis. The ledger, not the queue, is the truth: delivery is at least once, recording exactly once.

Key schema (``J`` is the job's name; every key carries a TTL of ``RESULT_TTL_H`` from the job's last activity):

====================================  ======  =================================================================
key                                   type    holds
====================================  ======  =================================================================
``ocrfleet:jobs``                     zset    job name -> time of creation (s)
``ocrfleet:job:J``                    hash    total, ok, failed, state (open | cancelled), created_ms,
                                              progress_ms, finished_ms, and what the producer wants remembered
``ocrfleet:job:J:state``              string  one byte a page: ``\0`` unfed, ``q`` queued, ``r`` running,
                                              ``o`` ok, ``f`` failed. All that stays of a page once collected.
``ocrfleet:job:J:tasks``              hash    index -> "queued_ms ImageTask-JSON"; pages in flight only
``ocrfleet:job:J:attempts``           hash    index -> tries so far; pages in flight only
``ocrfleet:job:J:losses``             hash    index -> "WorkerLost,OutOfMemory": why earlier tries were lost
``ocrfleet:job:J:leases``             zset    index -> until when (ms) its worker is presumed alive
``ocrfleet:job:J:results``            stream  records nobody has collected yet
``ocrfleet:job:J:blobs``              hash    index -> bytes of its blob (``--transfer redis``; blobs.py)
``ocrfleet:job:J:collector``          string  who is collecting (a lock with a TTL)
``ocrfleet:counters``                 hash    "ok", "failed:TYPE" -> records of all jobs ever, for the exporter
``ocrfleet:dead``                     stream  the last 1000 dead letters, for people (dead_letters.py)
====================================  ======  =================================================================

A page's way: unfed -> q (``feed``) -> r (``begin``) -> o | f (``finish``); r -> q when its process was lost
(``lose``) or stopped renewing its lease (``reclaim``); f -> unfed (``retry``);
q -> unfed (``unfeed``) when its job is cancelled.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import redis

from worker.broker import blobs
from worker.ledger import scripts
from worker.messages import ImageTask, encode
from worker.redis_keys import JOBS_KEY, JobKeys, now_ms
from worker.settings import LEASE_S

STATE_CHUNK = 1 << 20
Verdict = Literal["run", "done", "cancelled", "unknown", "busy", "exhausted"]


class Begin(NamedTuple):
    """The ledger's answer to a worker that holds a message."""

    verdict: Verdict
    attempts: int
    losses: tuple[str, ...]


class JobStatus(NamedTuple):
    """A job's counts at one moment."""

    job: str
    state: str
    total: int
    ok: int
    failed: int
    in_flight: int
    uncollected: int
    created_s: float
    progress_s: float
    finished_s: float | None
    extra: dict[str, str]

    @property
    def done(self) -> int:
        """Pages that have their record."""
        return self.ok + self.failed

    @property
    def finished(self) -> bool:
        """Whether every page has its record."""
        return self.done >= self.total


class Ledger:
    """The atomic steps of all jobs on one Redis."""

    def __init__(self, client: redis.Redis, *, ttl_s: int, max_attempts: int = 3) -> None:
        """Does not connect yet.

        Args:
            client: connection with ``decode_responses=False``.
            ttl_s: seconds a job's keys live after its last activity.
            max_attempts: tries an image gets before it is a dead letter.
        """
        self.client = client
        self.ttl_s = ttl_s
        self.max_attempts = max_attempts
        self._scripts = {
            name: client.register_script(getattr(scripts, name))
            for name in ("FEED", "BEGIN", "RENEW", "FINISH", "LOSE", "RECLAIM", "RETRY", "ADOPT", "UNFEED", "GROW")
        }

    def _call(self, script: str, job: str, *args: Any) -> Any:
        return self._scripts[script](keys=list(JobKeys.of(job)), args=list(args))

    # --- the producer's steps -----------------------------------------------------------------------------------

    def create(self, job: str, total: int, extra: Mapping[str, str]) -> bool:
        """Open a job of ``total`` pages. Returns False, changing nothing, if it already exists."""
        keys = JobKeys.of(job)
        with self.client.pipeline(transaction=True) as pipe:
            # In one transaction, watched: a crash or a twin in between leaves all of a job or nothing.
            pipe.watch(keys.job)
            if pipe.exists(keys.job):
                return False
            pipe.multi()
            counts: dict[str, Any] = {"total": total, "state": "open", "ok": 0, "failed": 0, "created_ms": now_ms()}
            pipe.hset(keys.job, mapping={**extra, **counts})
            pipe.zadd(JOBS_KEY, {job: time.time()})
            pipe.expire(JOBS_KEY, self.ttl_s)
            # Reserve the state bytes at once: Redis fills with zero bytes = unfed.
            if total:
                pipe.setrange(keys.state, total - 1, b"\0")
            for key in keys:
                pipe.expire(key, self.ttl_s)
            try:
                pipe.execute()
            except redis.WatchError:
                return False
        return True

    def grow(self, job: str, total: int) -> None:
        """A job has at least ``total`` pages: some files have more than were counted. Never makes it smaller."""
        self._call("GROW", job, total)

    def feed(self, tasks: Sequence[ImageTask]) -> list[int]:
        """Mark pages as queued. Returns the indices that were not fed before: only those may be sent."""
        if not tasks:
            return []
        args: list[Any] = [self.ttl_s, now_ms()]
        for task in tasks:
            args += [task.index, encode(task)]
        return [int(index) for index in self._call("FEED", tasks[0].job, *args)]

    def retry(self, job: str, indices: Sequence[int]) -> int:
        """Failed pages become unfed again. Returns how many."""
        return int(self._call("RETRY", job, self.ttl_s, *indices))

    def adopt(self, job: str, indices: Sequence[int], *, ok: bool) -> int:
        """Pages whose records are safely on disk count as done. Returns how many the ledger did not know of."""
        return int(self._call("ADOPT", job, "o" if ok else "f", *indices)) if indices else 0

    def cancel(self, job: str) -> bool:
        """Stop a job: its queued messages are dropped as workers meet them. False if there is no such job."""
        keys = JobKeys.of(job)
        if not self.client.exists(keys.job):
            return False
        self.client.hset(keys.job, "state", "cancelled")
        return True

    def unfeed(self, job: str, indices: Sequence[int]) -> int:
        """Queued pages nobody has begun become unfed again, and their blobs go. Returns how many."""
        return int(self._call("UNFEED", job, *indices)) if indices else 0

    def reopen(self, job: str) -> None:
        """A cancelled job may be fed again (resume)."""
        self.client.hset(JobKeys.of(job).job, "state", "open")

    def forget(self, job: str) -> int:
        """Delete every key of a job. Returns how many keys there were."""
        keys = JobKeys.of(job)
        blobs.discard(self.client, job)
        self.client.zrem(JOBS_KEY, job)
        return int(self.client.delete(*keys, f"{keys.job}:collector"))

    # --- the worker's steps -------------------------------------------------------------------------------------

    def begin(self, job: str, index: int, *, redelivered: bool) -> Begin:
        """Ask whether to run a page, and take its lease.

        A message that was handed out before (``redelivered``) takes the lease over: its first holder is known to
        be gone. A plain duplicate of a page that is running elsewhere is ``busy``.
        """
        verdict, attempts, losses = self._call(
            "BEGIN", job, index, now_ms(), LEASE_S * 1000, self.max_attempts, int(redelivered), self.ttl_s
        )
        text = losses.decode()
        return Begin(verdict.decode(), int(attempts), tuple(text.split(",")) if text else ())

    def renew(self, job: str, index: int) -> bool:
        """Heartbeat of a running page, every ``HEARTBEAT_S`` seconds. False: somebody else finished or holds it."""
        return bool(self._call("RENEW", job, index, now_ms() + LEASE_S * 1000))

    def finish(self, job: str, index: int, *, ok: bool, record: bytes) -> bool:
        """Write a page's one record. Returns False if it already had one: the first writer wins."""
        return bool(self._call("FINISH", job, index, "o" if ok else "f", record, self.ttl_s, now_ms()))

    def lose(self, job: str, index: int, cause: str) -> bool:
        """Note that a process was lost (or ran out of memory or time) over a page, and end its lease."""
        return bool(self._call("LOSE", job, index, cause))

    # --- anybody's questions ------------------------------------------------------------------------------------

    def reclaim(self, job: str, index: int) -> bytes | None:
        """Claim the right to send a stranded page again: its task JSON, or None if it is alive or done."""
        claimed: bytes | None = self._call("RECLAIM", job, index, now_ms())
        return claimed

    def expire_leases(self, job: str) -> None:
        """No worker of before is alive (the caller knows): all running pages may be claimed at once."""
        key = JobKeys.of(job).leases
        if members := self.client.zrange(key, 0, -1):
            self.client.zadd(key, dict.fromkeys(members, 0))

    def status(self, job: str) -> JobStatus | None:
        """A job's counts, None if there is no such job."""
        keys = JobKeys.of(job)
        pipe = self.client.pipeline(transaction=False)
        pipe.hgetall(keys.job)
        pipe.hlen(keys.tasks)
        pipe.xlen(keys.results)
        raw, in_flight, uncollected = pipe.execute()
        if not raw:
            return None
        fields = {key.decode(): value.decode() for key, value in raw.items()}

        def take(name: str) -> float:
            return float(fields.pop(name, 0) or 0)

        total, ok, failed = int(take("total")), int(take("ok")), int(take("failed"))
        created, progress, finished = take("created_ms"), take("progress_ms"), take("finished_ms")
        state = fields.pop("state", "open")
        return JobStatus(
            job, state, total, ok, failed, in_flight, uncollected,
            created / 1000, progress / 1000, finished / 1000 or None, fields,
        )  # fmt: skip

    def jobs(self) -> list[str]:
        """Names of all jobs whose keys still live, oldest first."""
        names = [name.decode() for name in self.client.zrange(JOBS_KEY, 0, -1)]
        return [name for name in names if self.client.exists(JobKeys.of(name).job)]

    def pages_in_state(self, job: str, letters: bytes) -> Iterator[int]:
        """Indices whose state byte is one of ``letters``, read in chunks of 1 MB so that memory stays flat."""
        key = JobKeys.of(job).state
        offset = 0
        while chunk := self.client.getrange(key, offset, offset + STATE_CHUNK - 1):
            for position, byte in enumerate(chunk):
                if byte in letters:
                    yield offset + position
            offset += len(chunk)

    def in_flight(self, job: str) -> dict[int, int]:
        """Pages that are queued or running -> when they were (last) sent, ms. Bounded by the feed window."""
        tasks = self.client.hgetall(JobKeys.of(job).tasks)
        return {int(index): int(entry.split(b" ", 1)[0]) for index, entry in tasks.items()}

    def lapsed(self, job: str) -> list[int]:
        """Running pages whose worker has not renewed its lease in time."""
        return [int(index) for index in self.client.zrangebyscore(JobKeys.of(job).leases, "-inf", now_ms())]

    def leased(self, job: str) -> set[int]:
        """Pages some worker holds a lease on, live or lapsed."""
        return {int(index) for index in self.client.zrange(JobKeys.of(job).leases, 0, -1)}


def chunked(indices: Iterable[int], size: int = 1000) -> Iterator[list[int]]:
    """Lists of at most ``size`` indices: Lua's argument list has a limit (about 8000 values)."""
    batch: list[int] = []
    for index in indices:
        batch.append(index)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
