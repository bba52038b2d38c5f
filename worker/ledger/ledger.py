r"""A job's state in Redis. The ledger, not the queue, is the truth: delivery is at least once, recording exactly once.

Key schema (``J`` is the job's name; every key carries a TTL of ``RESULT_TTL_H`` from the job's last activity):

====================================  ======  =================================================================
key                                   type    holds
====================================  ======  =================================================================
``ocrfleet:jobs``                     zset    job name -> time of creation (s)
``ocrfleet:job:J``                    hash    total, ok, failed, state (open | cancelled), epoch, created_ms,
                                              progress_ms, finished_ms, fed_ms (a producer was at work), kept_ms
                                              (the TTLs were renewed), and what the producer wants remembered
``ocrfleet:job:J:state``              string  one byte a page: ``\0`` unfed, ``q`` queued, ``r`` running,
                                              ``o`` ok, ``f`` failed. All that stays of a page once collected.
``ocrfleet:job:J:tasks``              hash    index -> "queued_ms ImageTask-JSON"; pages in flight only
``ocrfleet:job:J:attempts``           hash    index -> tries so far; pages in flight only
``ocrfleet:job:J:losses``             hash    index -> "WorkerLost,OutOfMemory": why earlier tries were lost
``ocrfleet:job:J:leases``             zset    index -> until when (ms) its worker is presumed alive
``ocrfleet:job:J:results``            stream  records nobody has collected yet
``ocrfleet:job:J:blobs``              hash    index -> bytes of its blob (``--transfer redis``; blobs.py)
``ocrfleet:job:J:holders``            hash    index -> which main process runs it; ``index:call`` -> by which `begin`
``ocrfleet:job:J:manifest``           string  the list of pages, compressed, while the job is open (producer/handover)
``ocrfleet:job:J:collector``          string  who is collecting (a lock with a TTL)
``ocrfleet:counters``                 hash    "ok", "failed:TYPE" -> records of all jobs ever, for the exporter
``ocrfleet:dead``                     stream  the last 1000 dead letters, for people (dead_letters.py)
====================================  ======  =================================================================

A page's way: unfed -> q (``feed``) -> r (``begin``) -> o | f (``finish``); r -> q when its process was lost
(``lose``) or stopped renewing its lease (``reclaim``); f -> unfed (``retry``);
q -> unfed (``unfeed``) when its job is cancelled.

A job's name may be used again (forgotten and enqueued anew; two producers). What tells the jobs apart is the *epoch*,
a random word that its producer chooses: it is in the hash and in every task, and a step of another epoch does nothing.
All times are of Redis' clock.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import redis

from detector.exit_codes import ExitCode
from worker.broker import blobs
from worker.broker.clock import redis_now
from worker.broker.wrong_types import is_wrong_type
from worker.errors import WorkerError
from worker.ledger import job_scripts, on_their_way, scripts
from worker.ledger.answers import Begin, JobStatus, losses_in
from worker.ledger.job_names import MOST_JOBS, job_names
from worker.ledger.job_status import read_status
from worker.ledger.runs import runs_of
from worker.messages import ImageTask, encode
from worker.redis_keys import JOBS_KEY, JobKeys
from worker.settings import LEASE_S

__all__ = ["ANY_EPOCH", "Begin", "JobReplacedError", "JobStatus", "Ledger", "chunked"]

T = TypeVar("T")
STATE_CHUNK, MOST_STATES = 1 << 20, 512 << 20  # Redis has no longer string
LAPSED_AT_ONCE = 256  # the others at the next look: each costs a round trip
MOST_LOOKED_AT = 1_000  # of the newest, by who asks for each of them: a round trip each
_SCRIPTS = {name: lua for module in (job_scripts, scripts) for name, lua in vars(module).items() if name.isalpha()}
ANY_EPOCH = "*"  # of who does not know a job's epoch, and acts on whichever job has the name now


class JobReplacedError(WorkerError):
    """The job of this name on the broker is another one than the caller's. The message says what to do."""

    exit_code = ExitCode.USAGE

    def __init__(self, job: str) -> None:
        super().__init__(
            f"the job {job} on this broker is another one of that name (forgotten and enqueued again, or another "
            "producer's): choose another --job, or `ocr-producer forget` it first"
        )


class Ledger:
    """The atomic steps of all jobs on one Redis."""

    def __init__(
        self, client: redis.Redis, *, ttl_s: int, max_attempts: int = 3, lease_s: float = LEASE_S, holder: str = ""
    ) -> None:
        """Does not connect yet.

        Args:
            client: connection with ``decode_responses=False``.
            ttl_s: seconds a job's keys live after its last activity.
            max_attempts: tries an image gets before it is a dead letter.
            lease_s: seconds a page stays its worker's without a heartbeat.
            holder: the process on whose behalf pages are begun; its successor gives them back (:meth:`reclaim`).
        """
        self.client = client
        self.ttl_s = ttl_s
        self.max_attempts = max_attempts
        self.lease_s = lease_s
        self.holder = holder
        self._scripts = {name: client.register_script(lua) for name, lua in _SCRIPTS.items()}

    def _call(self, script: str, job: str, *args: Any) -> Any:
        return self._scripts[script](keys=list(JobKeys.of(job)), args=list(args))

    def _step(self, script: str, job: str, epoch: str, *args: Any) -> Any:
        """A script with what all of them take first."""
        return self._call(script, job, epoch, self.ttl_s, *args)

    def _count(self, script: str, job: str, epoch: str, *args: Any) -> int:
        """A step that another job of the name refuses."""
        if (count := self._step(script, job, epoch, *args)) is None:
            raise JobReplacedError(job)
        return int(count)

    # --- the producer's steps -----------------------------------------------------------------------------------

    def create(self, job: str, total: int, extra: Mapping[str, str], *, epoch: str = "") -> int:
        """Open a job of ``total`` pages. Returns its `created_ms`, or 0, changing nothing, if it already exists.

        Args:
            job: its name.
            total: pages.
            extra: what the producer wants remembered.
            epoch: what tells it from other jobs of that name.
        """
        pairs = [word for pair in extra.items() for word in pair]
        return int(self._step("CREATE", job, epoch, total, *pairs))

    def grow(self, job: str, total: int) -> None:
        """A job has at least ``total`` pages: some files have more than were counted. Never makes it smaller.

        What somebody wrote there that is no number gives way, too.
        """
        self._call("GROW", job, total, 0)

    def put_right(self, job: str, total: int) -> None:
        """A job has ``total`` pages, whatever somebody wrote there."""
        self._call("GROW", job, total, 1)

    def feed(self, tasks: Sequence[ImageTask]) -> list[int]:
        """Mark pages as queued. Returns the indices that were not fed before: only those may be sent.

        Raises:
            JobReplacedError: the job of this name is not the tasks' any more.
        """
        if not tasks:
            return []
        args: list[Any] = []
        for task in tasks:
            args += [task.index, encode(task)]
        fresh = self._step("FEED", tasks[0].job, tasks[0].epoch, *args)
        if fresh is None:
            raise JobReplacedError(tasks[0].job)
        return [int(index) for index in fresh]

    def touch(self, job: str, *, epoch: str = ANY_EPOCH, feeding: bool = False) -> bool:
        """Somebody looks after the job, so it lives on. False if there is no such job (of this epoch).

        Args:
            job: its name.
            epoch: the caller's.
            feeding: the caller is the job's producer.
        """
        return bool(self._step("TOUCH", job, epoch, int(feeding)))

    def retry(
        self, job: str, indices: Sequence[int], entries: Mapping[int, bytes] | None = None, *, epoch: str = ANY_EPOCH
    ) -> int:
        """Failed pages become unfed again, and their uncollected records go, in one step. Returns how many.

        Args:
            job: its name.
            indices: the pages.
            entries: index -> entry of its failed record in the results stream, where it was not collected yet.
            epoch: the caller's.

        Raises:
            JobReplacedError: the job of this name is another one.
        """
        known = entries or {}
        args: list[Any] = []
        for index in indices:
            args += [index, known.get(index, b"")]
        return self._count("RETRY", job, epoch, *args)

    def adopt(self, job: str, indices: Sequence[int], *, ok: bool, epoch: str = ANY_EPOCH) -> int:
        """Pages whose records are safely on disk count as done. Returns how many the ledger did not know of."""
        return int(self._step("ADOPT", job, epoch, "o" if ok else "f", *runs_of(indices))) if indices else 0

    def redo(self, job: str, indices: Sequence[int], *, epoch: str = ANY_EPOCH) -> int:
        """Done pages whose record nobody has any more become unfed again. Returns how many; raises as `retry`."""
        return self._count("REDO", job, epoch, *indices) if indices else 0

    def cut(self, job: str, pages: int, *, epoch: str = ANY_EPOCH) -> None:
        """A job that has so many pages is about to have more: what stands among the states behind them goes."""
        self._step("CUT", job, epoch, pages)

    def cancel(self, job: str) -> bool:
        """Stop a job: its queued messages are dropped as workers meet them. False if there is no such job."""
        try:
            return self.note(job, {"state": "cancelled"})
        except redis.ResponseError as error:
            if not is_wrong_type(error):
                raise
            self.client.unlink(JobKeys.of(job).job)  # what was in there is gone: no such job
            return False

    def unfeed(self, job: str, indices: Sequence[int]) -> int:
        """Queued pages nobody has begun become unfed again, and their blobs go. Returns how many."""
        return int(self._step("UNFEED", job, ANY_EPOCH, *indices)) if indices else 0

    def reopen(self, job: str) -> None:
        """A cancelled job may be fed again (resume)."""
        self.note(job, {"state": "open"})

    def note(self, job: str, fields: Mapping[str, str | int]) -> bool:
        """Write fields of a job's hash. False: it is gone, and stays so."""
        return bool(self._step("NOTE", job, ANY_EPOCH, *(word for pair in fields.items() for word in pair)))

    def forget(self, job: str, epoch: str = "") -> int:
        """Delete every key of a job, whose epoch may be known: others write its hash. Returns how many there were."""
        keys, status = JobKeys.of(job), self.status(job)
        # The hash first: a worker that finishes a page in between must not begin a stream of a job that is gone.
        count = int(self.client.delete(keys.job))
        for known in {epoch, status.epoch if status else ""}:
            blobs.discard(self.client, job, known)
        self.client.zrem(JOBS_KEY, job)
        return count + int(self.client.delete(*keys, f"{keys.job}:collector"))

    # --- the worker's steps -------------------------------------------------------------------------------------

    def begin(self, job: str, index: int, *, redelivered: bool, epoch: str = "") -> Begin:
        """Ask whether to run a page, and take its lease.

        A message that was handed out before (``redelivered``) takes the lease over: its first holder is known to
        be gone. A plain duplicate of a page that is running elsewhere is ``busy``; a message of another job of this
        name is ``stale``.
        """
        verdict, attempts, losses = self._step(
            "BEGIN", job, epoch, index, int(self.lease_s * 1000), self.max_attempts, int(redelivered), self.holder,
            secrets.token_hex(8),
        )  # fmt: skip
        return Begin(verdict.decode(), int(attempts), losses_in(losses))

    def renew(self, job: str, index: int, *, epoch: str = "") -> bool:
        """Heartbeat of a running page, every third of a lease. False: somebody else finished or holds it."""
        return bool(self._step("RENEW", job, epoch, index, int(self.lease_s * 1000)))

    def finish(self, job: str, index: int, *, ok: bool, record: bytes, epoch: str = "") -> bool:
        """Write a page's one record. Returns False if it already had one, or its job is gone: first writer wins."""
        return bool(self._step("FINISH", job, epoch, index, "o" if ok else "f", record))

    def lose(self, job: str, index: int, cause: str, *, epoch: str = "") -> bool:
        """Note that a process was lost (or ran out of memory or time) over a page, and end its lease."""
        return bool(self._step("LOSE", job, epoch, index, cause))

    def done_as(self, job: str, entries: Iterable[tuple[int, bytes]]) -> list[bytes]:
        """Of each page, and an entry that says it is its record, the page's state; b"": it is not its record."""
        return list(self._step("DONE", job, ANY_EPOCH, *(word for pair in entries for word in pair)))

    # --- anybody's questions ------------------------------------------------------------------------------------

    def now(self) -> float:
        """Unix time by the broker's clock, seconds."""
        return redis_now(self.client)

    def reclaim(self, job: str, index: int, *, dead: str = "") -> bytes | None:
        """Claim the right to send a stranded page again: its task JSON, or None if it is alive or done.

        Args:
            job: its name.
            index: the page.
            dead: a holder that is known to be gone: its lease does not count.
        """
        data: bytes | None = self._step("RECLAIM", job, ANY_EPOCH, index, dead)
        return data

    def holders(self, job: str) -> dict[int, str]:
        """Running pages -> the main process that runs each, where it said so."""
        return on_their_way.holders(self.client, job)

    def expire_leases(self, job: str) -> None:
        """No worker of before is alive (the caller knows): all running pages may be claimed at once."""
        key = JobKeys.of(job).leases
        if members := self.client.zrange(key, 0, -1):
            self.client.zadd(key, dict.fromkeys(members, 0))

    def status(self, job: str) -> JobStatus | None:
        """A job's counts, None if there is no such job."""
        return read_status(self.client, job)

    def jobs(self, newest: int = MOST_JOBS) -> list[str]:
        """Names of the newest jobs whose keys still live, oldest first."""
        found = []
        for jobs in chunked(job_names(self.client, -newest)):
            pipe = self.client.pipeline(transaction=False)
            for job in jobs:
                pipe.exists(JobKeys.of(job).job)
            found += [job for job, lives in zip(jobs, pipe.execute(), strict=True) if lives]
        return found

    def pages_in_state(self, job: str, letters: bytes) -> Iterator[int]:
        """Indices whose state byte is one of ``letters``, read in chunks of 1 MB so that memory stays flat."""
        for offset, chunk in self._states(job):
            for found in re.finditer(b"[" + letters + b"]", chunk):
                yield offset + found.start()

    def _states(self, job: str) -> Iterator[tuple[int, bytes]]:
        for offset in range(0, MOST_STATES, STATE_CHUNK):  # a server that lies has no end of them
            yield offset, (chunk := self.states(job, offset, STATE_CHUNK))
            if len(chunk) < STATE_CHUNK:
                return

    def states(self, job: str, first: int, count: int) -> bytes:
        """The state bytes of so many pages in a row, fewer where they end."""
        return bytes(self.client.getrange(JobKeys.of(job).state, first, first + count - 1)[:count])

    def first_to_feed(self, job: str) -> int:
        """The first page that is not done; where the states end, if all are. Before it there is nothing to feed."""
        end, undone = 0, re.compile(rb"[\0qr]")
        for offset, chunk in self._states(job):
            if found := undone.search(chunk):
                return offset + found.start()
            end = offset + len(chunk)  # STRLEN would say it, and is none of users.acl
        return end

    def in_flight(self, job: str) -> dict[int, int]:
        """Pages that are queued or running -> when they were (last) sent, ms. Bounded by the feed window."""
        return on_their_way.tasks(self.client, job)

    def lapsed(self, job: str) -> list[int]:
        """Running pages whose worker has not renewed its lease in time."""
        return on_their_way.lapsed(self.client, job)[:LAPSED_AT_ONCE]

    def leased(self, job: str) -> set[int]:
        """Pages with a lease, live or lapsed; not those that end later than any of ours."""
        return on_their_way.leased(self.client, job)


def chunked(items: Iterable[T], size: int = 1000) -> Iterator[list[T]]:
    """Lists of at most ``size`` items: Lua's argument list has a limit (about 8000 values)."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
