"""Drain a job's results to disk, each record exactly once, whatever dies in between.

Order of things: read from the stream, append to ``results.jsonl``, fsync, remove from the stream. A crash before the
removal makes the same records come again; they are recognised by their index, since the file is read once at start.
A file of another job is refused before anything is read from Redis (results_owner.py).

All it needs of a broker whose memory is full is what such a broker still allows: reading and removing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

from redis.exceptions import OutOfMemoryError, RedisError

from detector.record import worker_name
from producer.errors import ProducerError
from producer.job.results_file import Line, decode_line, keep_last_records, read_lines, truncate_torn_line
from producer.job.results_owner import ResultsOwner, check_name, claim
from worker.ledger.ledger import Ledger
from worker.redis_keys import JobKeys

BATCH = 256
LOCK_S = 30
_UNSEEN, _OK, _FAILED = 0, 1, 2


class AlreadyCollectingError(ProducerError):
    """Another process collects this job. The message names it."""


class Collector:
    """Collects one job into one ``results.jsonl``. Use as a context manager, call :meth:`step` often.

    Memory: one byte a page of the job.
    """

    def __init__(
        self,
        ledger: Ledger,
        job: str,
        results: Path,
        total: int,
        *,
        owner: ResultsOwner | None = None,
        on_disk: Callable[[Line], None] = lambda line: None,
    ) -> None:
        """Touch nothing yet.

        Args:
            ledger: of the broker.
            job: the job's name.
            results: the file to append to.
            total: pages of the job.
            owner: which job of that name; None for `run`, whose private server may have lost its data and been
                started again empty, while the records in the file are still the job's own.
            on_disk: told of each record that was on disk before.
        """
        self._ledger = ledger
        self._job = job
        self._owner = owner
        self._on_disk = on_disk
        self._keys = JobKeys.of(job)
        self._lock_key = f"{self._keys.job}:collector"
        self._me = worker_name().encode()
        self.results = results
        self._seen = bytearray(total)
        self._superseded = False
        self._file: FileIO | None = None

    def __enter__(self) -> Collector:
        """Take the job's lock and read which pages the file holds already.

        Raises:
            OtherJobError: the file holds another job's records.
            AlreadyCollectingError: another process collects this job.
        """
        self._refuse_another_jobs()
        self._take_lock()
        try:
            if self._owner is not None:
                claim(self.results, self._owner)
            self.results.parent.mkdir(parents=True, exist_ok=True)
            if self.results.exists():
                truncate_torn_line(self.results)
                self._read_what_is_there()
            self._file = self.results.open("ab", buffering=0)
        except BaseException:
            self._release_lock(failed=True)
            raise
        return self

    def _refuse_another_jobs(self) -> None:
        """By its first record, before the file is touched: its own collector may be writing to it."""
        if self.results.exists():
            for _, line in read_lines(self.results):
                if line is not None:
                    check_name(self.results, line.job or self._job, self._job)
                    return

    def _read_what_is_there(self) -> None:
        for _, line in read_lines(self.results):
            if line is not None:
                check_name(self.results, line.job or self._job, self._job)
                # Two of one page: an earlier collector was killed before it dropped what a retry made good.
                self._superseded |= self._marked(line.index) != _UNSEEN
                self._mark(line)
                self._on_disk(line)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file, drop the failed records that a retry made good, and free the lock."""
        try:
            if self._file is not None:
                self._file.close()
                self._file = None
                if self._superseded:
                    keep_last_records(self.results)
        finally:
            self._release_lock(failed=exc is not None)

    def _take_lock(self) -> None:
        client = self._ledger.client
        with suppress(OutOfMemoryError):  # a full broker: see who holds it, and go on without it if nobody does
            if client.set(self._lock_key, self._me, nx=True, ex=LOCK_S):
                return
        holder = client.get(self._lock_key)
        if holder not in (None, self._me) and not _is_dead_neighbour(holder):
            raise AlreadyCollectingError(
                f"job {self._job} is being collected by {holder.decode()}; two collectors would share its records"
            )
        self._keep_lock()

    def _release_lock(self, *, failed: bool) -> None:
        # A broker on the disk that is full refuses this too; what is to be said is that the disk is full.
        with suppress(RedisError) if failed else nullcontext():
            self._ledger.client.delete(self._lock_key)

    def _keep_lock(self) -> None:
        # Emptying a full broker comes first; a second collector, should there be one, would lose no record either.
        with suppress(OutOfMemoryError):
            self._ledger.client.set(self._lock_key, self._me, ex=LOCK_S)

    def _marked(self, index: int) -> int:
        return self._seen[index] if index < len(self._seen) else _UNSEEN

    def _mark(self, line: Line) -> None:
        if line.index >= len(self._seen):
            self._seen.extend(bytes(line.index + 1 - len(self._seen)))
        self._seen[line.index] = _OK if line.status == "ok" else _FAILED

    def on_disk(self, *, ok: bool) -> Iterator[int]:
        """Indices whose record is on disk with this status."""
        wanted = _OK if ok else _FAILED
        return (index for index, mark in enumerate(self._seen) if mark == wanted)

    @property
    def count(self) -> int:
        """How many pages have a record on disk."""
        return len(self._seen) - self._seen.count(_UNSEEN)

    @property
    def failed(self) -> int:
        """How many pages have a failed record on disk."""
        return self._seen.count(_FAILED)

    def step(self, block_ms: int = 200) -> list[Line]:
        """Move what has arrived from Redis to disk. Returns the records that are new.

        Args:
            block_ms: how long to wait for a first record, milliseconds; 0 returns at once.
        """
        assert self._file is not None, "use the collector as a context manager"
        client = self._ledger.client
        self._keep_lock()
        answer: Any = client.xread({self._keys.results: "0"}, count=BATCH, block=block_ms or None)
        if not answer:
            return []
        # redis-py answers a list of pairs in RESP2 and a dict of lists in RESP3.
        entries = next(iter(answer.values()))[0] if isinstance(answer, dict) else answer[0][1]
        new = []
        fresh = bytearray()
        for _, fields in entries:
            raw = fields[b"record"]
            line = decode_line(raw)
            before = self._marked(line.index)
            if before == _OK or (before == _FAILED and line.status == "failed"):
                continue  # came again after a crash between fsync and removal
            self._superseded |= before == _FAILED  # a retry made it good
            self._mark(line)
            fresh += raw + b"\n"
            new.append(line)
        self._append(fresh)
        client.xdel(self._keys.results, *(entry_id for entry_id, _ in entries))
        return new

    def _append(self, lines: bytearray) -> None:
        assert self._file is not None
        try:
            # Unbuffered: what a full disk did not take must not be tried again when the file is closed.
            left = memoryview(lines)
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:  # which does not know its file's name
            raise OSError(error.errno, error.strerror, str(self.results)) from None


def _is_dead_neighbour(holder: bytes) -> bool:
    """Whether the lock's holder was a process of this machine that is gone."""
    host, _, pid = holder.decode().rpartition(":")
    return host == socket.gethostname() and pid.isdigit() and not Path(f"/proc/{pid}").exists()
