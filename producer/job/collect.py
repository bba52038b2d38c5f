"""Drain a job's results to disk, each record exactly once, whatever dies in between.

Order of things: read from the stream, append to ``results.jsonl``, fsync, remove from the stream. A crash before the
removal makes the same records come again; they are recognised by their index, since the file is read once at start.
A file of another job is refused before anything is read from Redis (results_owner.py), and a job that was forgotten and
enqueued again meanwhile is another job. What is no record of this job goes to a quarantine file, and the rest goes on.

All it needs of a broker whose memory is full is what such a broker still allows: reading and removing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from io import FileIO
from pathlib import Path
from types import TracebackType

from redis.exceptions import RedisError

from detector.atomic import named
from detector.record import UNREADABLE
from producer.bounds import MOST_PAGES_OF_A_JOB
from producer.job.collecting.few_at_first import FewAtFirst
from producer.job.collecting.put_aside import PutAside
from producer.job.collecting.true_records import true_records
from producer.job.collector_lock import AlreadyCollectingError, FileLock, JobLock
from producer.job.growth import Growth
from producer.job.results_file import TICK_LINES, Line, decode_whole, keep_last_records, read_lines, truncate_torn_line
from producer.job.results_owner import ResultsOwner, check_name, claim
from producer.no_links import no_links_ours
from worker.broker.damaged_keys import replies
from worker.broker.short_replies import TooLong
from worker.ledger.ledger import STATE_CHUNK, JobReplacedError, Ledger
from worker.messages import MOST_RECORD_BYTES
from worker.redis_keys import JobKeys, number_in

_READING = threading.Semaphore(2)
"""Collectors of one process that hold a reply at a time: of the page's 48 jobs each could hold `Bounds.reply` of it."""

_UNSEEN, _OK, _FAILED = 0, 1, 2
_LETTERS = bytes.maketrans(bytes((_UNSEEN, _OK, _FAILED)), b"\0of")


class Collector:
    """Collects one job into one ``results.jsonl``. Use as a context manager, call :meth:`step` often.

    Memory: one byte a page of the job.

    Attributes:
        aside: entries that were no records of this job; marks: what is known of each page's record, a byte each.
    """

    def __init__(
        self,
        ledger: Ledger,
        job: str,
        results: Path,
        total: int,
        *,
        owner: ResultsOwner | None = None,
        growth: Growth | None = None,
        known: bytearray | None = None,
    ) -> None:
        """Touch nothing yet.

        Args:
            ledger: of the broker.
            job: the job's name.
            results: the file to append to.
            total: pages of the job.
            owner: which job of that name; None for `run`, whose private server may have lost its data and been
                started again empty, while the records in the file are still the job's own.
            growth: of the job's manifest, where that is here: told of each record that was on disk before, and the
                job has as many pages as it says, whatever Redis says.
            known: `marks` of the collector before, where nobody changed the file since: it is not read again.
        """
        self._ledger = ledger
        self._job = job
        self._owner = owner
        self._growth = growth
        self._keys = JobKeys.of(job)
        self._lock = JobLock(ledger.client, f"{self._keys.job}:collector", job)
        self._file_lock = FileLock(results)
        self._identity = None if owner is None else (b"%d" % owner.created_ms, owner.epoch.encode())
        self._ask = FewAtFirst()
        self.results = results
        self.aside = PutAside(job, results)
        self.marks = bytearray(max(0, min(total, self._most(total))))
        self._known = known
        self._superseded = False
        self._file: FileIO | None = None

    def __enter__(self) -> Collector:
        """Take the job's lock and read which pages the file holds already.

        Raises:
            OtherJobError: the file holds another job's records.
            AlreadyCollectingError: another process collects this job.
        """
        self._refuse_another_jobs()
        self._lock.take()
        try:
            self._identity = self._identity or self._identity_now()
            self._reach(self._ledger.client.hget(self._keys.job, "total"))
            if self._owner is not None:
                claim(self.results, self._owner)
            self._file_lock.take()
            self.results.parent.mkdir(parents=True, exist_ok=True)
            if self.results.exists():
                truncate_torn_line(self.results)
                if self._known:
                    self.marks[: len(self._known)] = self._known[: self.total]
                else:
                    self._read_what_is_there()
            self._file = open(self.results, "ab", buffering=0, opener=no_links_ours)  # closed by `close`
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
        for number, (_, line) in enumerate(read_lines(self.results), 1):
            if number % TICK_LINES == 0:
                self._lock.keep()
            if line is not None and self._has_page(line.index):
                check_name(self.results, line.job or self._job, self._job)
                # Two of one page: an earlier collector was killed before it dropped what a retry made good.
                self._superseded |= self._marked(line.index) != _UNSEEN
                self._mark(line)
                if self._growth is not None:
                    self._growth.note(line)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file, drop the failed records that a retry made good, and free the lock."""
        try:
            if self._file is not None:
                self._file.close()
                self._file = None
                if self._superseded:
                    keep_last_records(self.results, self._lock.keep_if_reached)
        finally:
            self._release_lock(failed=exc is not None)

    def _release_lock(self, *, failed: bool) -> None:
        self._file_lock.release()
        # A broker on the disk that is full refuses this too; what is to be said is that the disk is full.
        with suppress(RedisError) if failed else nullcontext():
            self._lock.release()

    def _identity_now(self) -> tuple[bytes, bytes] | None:
        """What tells this job from others of its name; None while there is no such job."""
        created, epoch = (self._ledger.client.hget(self._keys.job, name) for name in ("created_ms", "epoch"))
        return None if created is None else (created, epoch or b"")

    def _reach(self, total: bytes | None) -> None:
        """The job grew: files have more pages than were counted."""
        if total is not None and (pages := number_in(total)) is not None:
            self.marks.extend(bytes(max(0, min(pages, self._most(pages)) - self.total)))

    def _has_page(self, index: int) -> bool:
        """By the job's list; elsewhere also where it was done, by its state: the number in Redis may be anybody's."""
        if self.total <= index < self._most(index + 1) and self._ledger.states(self._job, index, 1) in (b"o", b"f"):
            end = index + len(self._ledger.states(self._job, index, STATE_CHUNK))  # of all before it: too long a reply
            self.marks.extend(bytes(min(end, self._most(end)) - self.total))
        return 0 <= index < self.total

    def _most(self, wanted: int) -> int:
        """How many pages the job can have by now, where it is asked about one of so many."""
        return MOST_PAGES_OF_A_JOB if self._growth is None else self._growth.pages(wanted)

    @property
    def total(self) -> int:
        """Pages of the job, as far as is known here."""
        return len(self.marks)

    def _marked(self, index: int) -> int:
        return self.marks[index] if index < len(self.marks) else _UNSEEN

    def _mark(self, line: Line) -> None:
        self.marks[line.index] = _OK if line.status == "ok" else _FAILED

    def holds(self, index: int) -> bool:
        """Whether a page's record is on disk."""
        return self._marked(index) != _UNSEEN

    def on_disk(self, *, ok: bool) -> Iterator[int]:
        """Indices whose record is on disk with this status."""
        wanted = _OK if ok else _FAILED
        return (index for index, mark in enumerate(self.marks) if mark == wanted)

    def letters(self, begin: int, end: int) -> bytes:
        """What the records of these pages on disk say, as the ledger's states do: `o`, `f`, 0 where there is none."""
        return bytes(self.marks[begin:end].translate(_LETTERS))

    def keep(self) -> None:
        """Renew the job's lock.

        Raises:
            AlreadyCollectingError: somebody else has it now.
        """
        self._lock.keep()

    @property
    def count(self) -> int:
        """How many pages have a record on disk."""
        return len(self.marks) - self.marks.count(_UNSEEN)

    @property
    def failed(self) -> int:
        """How many pages have a failed record on disk."""
        return self.marks.count(_FAILED)

    def step(self, block_ms: int = 200) -> list[Line]:
        """Move what has arrived from Redis to disk. Returns the records that are new.

        Args:
            block_ms: how long to wait for a first record, milliseconds; 0 returns at once.
        """
        assert self._file is not None, "use the collector as a context manager"
        gone, new = self._take()
        if not gone and block_ms and self._ledger.client.xread({self._keys.results: "0"}, count=1, block=block_ms):
            _, new = self._take()
        return new

    def drain(self) -> Iterator[list[Line]]:
        """Move all that waits now to disk, in batches, however many of them hold nothing new."""
        left = self._ledger.client.xlen(self._keys.results)
        while left > 0:
            gone, new = self._take()
            left = left - gone if gone else 0
            yield new

    def _take(self) -> tuple[int, list[Line]]:
        """Take some of what waits. Returns how many entries went, and which records were new."""
        with _READING:
            entries = self._waiting()
            self._lock.keep()
            return len(entries), self._move(entries) if entries else []

    def _move(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> list[Line]:
        read = [(entry, fields, line) for entry, fields in entries if (line := self._record_in(entry, fields))]
        is_true = true_records(self._ledger, self._job, [(entry, line) for entry, _, line in read])
        taken: dict[int, tuple[Line, bytes]] = {}
        for entry, fields, line in read:
            if entry not in is_true:
                self.aside.put(entry, fields, "of a page that is not done, or not the record that it got then")
            elif self._is_news(line) and line.index not in taken:
                taken[line.index] = line, fields[b"record"]
        for line, _ in taken.values():
            self._superseded |= self._marked(line.index) != _UNSEEN  # a retry made it good
            self._mark(line)
        self._append(b"".join(part for _, raw in taken.values() for part in (raw, b"\n")))
        self.aside.write()
        self._remove([entry for entry, _ in entries], list(taken))
        return [line for line, _ in taken.values()]

    def _is_news(self, line: Line) -> bool:
        """Whether it did not come again, after a crash between fsync and removal."""
        before = self._marked(line.index)
        return before == _UNSEEN or (before == _FAILED and line.status == "ok")

    def _remove(self, entries: list[bytes], pages: list[int]) -> None:
        pipe = self._ledger.client.pipeline(transaction=False)
        pipe.xdel(self._keys.results, *entries)
        if pages:
            pipe.hdel(self._keys.entries, *map(str, pages))
        pipe.xlen(self._keys.results).hlen(self._keys.entries)
        *_, waiting, noted = replies(pipe)
        if noted and not waiting:  # a stranger's
            self._ledger.client.unlink(self._keys.entries)

    def _waiting(self) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """The next entries of the stream, surely of this job.

        Raises:
            JobReplacedError: the job of this name is another one by now.
        """
        pipe = self._ledger.client.pipeline(transaction=False)
        pipe.xrange(self._keys.results, count=self._ask.count)
        # Asked after: had another job of this name begun before the entries were read, it would be there now.
        pipe.hget(self._keys.job, "created_ms")
        pipe.hget(self._keys.job, "epoch")
        pipe.hget(self._keys.job, "total")
        entries, created, epoch, total = pipe.execute()
        if created is not None:
            self._reach(total)
            self._refuse_a_replaced_one((created, epoch or b""))
        return self._ask.that_fit(entries)

    def _refuse_a_replaced_one(self, now: tuple[bytes, bytes]) -> None:
        """Another job has another time and another epoch; one of them alone was written by somebody else."""
        self._identity = before = self._identity or now
        if now[0] != before[0] and (now[1] != before[1] or not now[1]):
            raise JobReplacedError(self._job)

    def _record_in(self, entry: bytes, fields: dict[bytes, bytes]) -> Line | None:
        """The record of an entry; None, and the entry kept for people, if it is none of this job's."""
        raw = fields.get(b"record") or b""
        if isinstance(raw, TooLong):
            self.aside.put(entry, fields, f"longer than a record may be ({(raw.size or MOST_RECORD_BYTES) >> 10} KiB)")
            return None
        try:
            line = decode_whole(raw)
        except UNREADABLE as error:
            self.aside.put(entry, fields, f"not a record ({error})")
            return None
        if not self._has_page(line.index) or line.job not in ("", self._job) or b"\n" in raw:
            self.aside.put(entry, fields, f"not a record of job {self._job} with {self.total} pages")
            return None
        return line

    def _append(self, lines: bytes) -> None:
        assert self._file is not None
        if not lines:
            return
        with named(self.results):
            # Unbuffered: what a full disk did not take must not be tried again when the file is closed.
            left = memoryview(lines)
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())


__all__ = ["AlreadyCollectingError", "Collector"]
