"""Backpressure: pages go on the queue only while queue + unacknowledged stay inside a window."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from celery import Celery

from producer.detector_process.turn_process import NotYetError
from producer.job.manifest import ManifestLine
from producer.job.sending.refusal import CannotSendError, refuse
from producer.job.sending.room import Memory, Room, memory_for_pages
from producer.job.sending.window import Window as Window
from producer.job.upload import BATCH_BYTES, BATCH_PAGES, Parcel, Uploader
from worker.broker import queue
from worker.ledger.ledger import Ledger
from worker.ledger.share import Share, room_in_share
from worker.ledger.uncollected import Uncollected
from worker.messages import ImageTask
from worker.page_options import NO_OPTIONS, PageOptions
from worker.redis_keys import JobKeys
from worker.storage.spool import MachineFault

# An upload over a slow line, or ten million pages that are done (20 s), must not keep the caller from collecting,
# renewing its lock (30 s), looking after its workers and showing progress.
STEP_S = 1.0
LOOK_AHEAD = 64
# States that are read at once where pages are done: to ask FEED about each was 6 us more.
PASSED_AHEAD = 1 << 14
LOOK_AGAIN_S = 5.0
# So many pages of an urgent job may be on their way whatever else waits.
URGENT_PAGES = 32
# With fewer records than UNWEIGHED their size does not matter.
UNWEIGHED = 256


class Feeder:
    """Feeds one job. Call :meth:`step` often; it ends ``STEP_S`` after the last message, also where all pages are done.

    Attributes:
        exhausted: every page of the manifest has been fed.
        waiting: why feeding pauses, in words for people; empty if it does not.
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
        options: PageOptions = NO_OPTIONS,
        window: Window | None = None,
        uploader: Uploader | None = None,
        epoch: str = "",
        again: Callable[[int], Iterator[ManifestLine]] | None = None,
        urgent: bool = False,
    ) -> None:
        """Send nothing yet.

        Args:
            app: sends the messages.
            ledger: of the same broker.
            job: the job's name.
            manifest: its pages.
            limit_side: long side the network sees at most, pixels; 0 leaves it to the workers.
            options: what else the job asks of the workers.
            window: how much may wait in Redis.
            uploader: sends the pages' bytes too; None if workers open the pages themselves.
            epoch: which job of that name.
            again: the manifest's lines from an index on, for pages that a broker forgot having been fed.
            urgent: workers take these pages next, and a window that others have filled does not hold them up.
        """
        self._app = app
        self._ledger = ledger
        self._job = job
        self._lines: Iterator[ManifestLine] = iter(manifest)
        self._drained = False
        self._added: deque[Iterator[ManifestLine]] = deque()
        self._limit_side = limit_side
        self._options = options
        self._window = window or Window()
        self._uploader = uploader
        self._epoch = epoch
        self._again = again
        self._urgent = urgent
        self._share = Share(ledger, job)
        self._jobs = 1
        self._fed_since_look = False
        self._passes = False  # the last lines were all done: the next may be, too
        self._states, self._states_from = b"", 0
        self._looked_at = 0.0
        self._unsent: deque[ManifestLine] = deque()
        self._memory = Memory()
        self._needs = 0  # bytes of a page that found no room
        self._like = 0  # of the one before
        self._is_pending = False
        self._uncollected = Uncollected(ledger.client, JobKeys.of(job).results)
        self._weighed_at = 0
        self._record_bytes = 0.0
        self.exhausted = False
        self.waiting = ""
        self.sent = 0

    def step(self) -> int:
        """Send what the window has room for. Returns how many messages were sent."""
        if self.exhausted:
            return 0
        room = self._room()
        if room <= 0:
            return 0
        self.waiting = self._reason_to_wait()
        if self.waiting:
            return 0
        self._states = b""
        if self._uploader is not None:
            with self._uploader.alone() as mine:
                sent = self._step_uploading(self._uploader, room) if mine else 0
            self._count(sent)
            return sent
        sent, until = 0, time.monotonic() + STEP_S
        while sent < room and time.monotonic() < until:
            lines = self._take(min(room - sent, 64))
            if not lines:
                self._at_the_end(sent)
                break
            fed = self._feed(self._not_done(lines))
            self._passes = not fed
            if fed:
                sent, until = sent + fed, time.monotonic() + STEP_S  # what is sent is bounded by the room
        self._count(sent)
        return sent

    @property
    def feeds_all(self) -> bool:
        """Whether this is the job's producer, not a collector that only adds what the scan missed."""
        return self._again is not None

    def _room(self) -> int:
        """How many messages may be sent."""
        low, high = self._window.low, self._window.high
        self._jobs = self._share.others() + 1
        if self._jobs > 1 and not self._urgent:
            return room_in_share(self._share.in_flight(), self._jobs, low, high)
        waiting, in_hand = queue.depth(self._ledger.client)
        if self._jobs == 1:  # whoever may write there may say that workers hold what no job has
            in_hand = min(in_hand, self._share.in_flight())
        room = high - waiting - in_hand
        if room >= high - low:
            return room
        return URGENT_PAGES - self._share.in_flight() if self._urgent else 0

    def _send(self, task: ImageTask) -> None:
        queue.send(self._app, task, urgent=self._urgent, in_turn=self._jobs > 1)

    def _count(self, sent: int) -> None:
        self.sent += sent
        self._fed_since_look |= bool(sent)

    def _at_the_end(self, sent: int) -> None:
        """All of the manifest was fed, unless the broker lost its last seconds meanwhile: then what it forgot is next.

        A pass that sent nothing ends it: the job was cancelled, say.
        """
        self.exhausted = True
        if self._fed_since_look or sent:
            self._fed_since_look = False
            self._begin_again()

    def look_again(self) -> None:
        """The ledger has pages that nobody fed: if they are still there, feed them. Looks every ``LOOK_AGAIN_S``."""
        now = time.monotonic()
        if self.exhausted and now - self._looked_at > LOOK_AGAIN_S:
            self._looked_at = now
            self._begin_again()

    def _begin_again(self) -> None:
        first = next(self._ledger.pages_in_state(self._job, b"\0"), None)
        if first is not None and self._again is not None:
            self._lines = self._again(first)
            self._drained = False
            self._added.clear()  # they are at the manifest's end
            self.exhausted = False

    def feed_again(self, lines: Iterable[ManifestLine]) -> None:
        """Pages that were fed are unfed again: they are among these lines."""
        if self._again is None:
            self._added.append(iter(lines))
            self.exhausted = False
            return
        self._fed_since_look = True  # at the manifest's end it looks for them
        if self.exhausted:
            self._begin_again()

    def refuse(self, line: ManifestLine, error_type: str, message: str) -> None:
        """Write a page's failed record, unless it has one."""
        refuse(self._ledger, self._task(line), error_type, message)

    def go_on(self, added: Iterable[ManifestLine]) -> None:
        """Feed pages too that were added to the end of the manifest's file meanwhile."""
        if self._drained or self._again is None:  # else its reader comes to them by itself; twice is harmless
            self._added.append(iter(added))
            self.exhausted = False

    def _take(self, count: int) -> list[ManifestLine]:
        """The next lines, fewer at the end."""
        lines = [] if self._drained else list(islice(self._lines, count))
        self._drained = self._drained or len(lines) < count
        while self._added and len(lines) < count:
            lines += islice(self._added[0], count - len(lines))
            if len(lines) < count:
                self._added.popleft()
        return lines

    def _not_done(self, lines: list[ManifestLine]) -> list[ManifestLine]:
        """These lines, without those of done pages where many in a row are. What is left may be done meanwhile."""
        return [line for line in lines if not self._passes or not self._is_done(line.index)]

    def _is_done(self, index: int) -> bool:
        place = index - self._states_from
        if not 0 <= place < len(self._states):
            found = self._ledger.states(self._job, index, PASSED_AHEAD)
            self._states, self._states_from, place = found.ljust(PASSED_AHEAD, b"\0"), index, 0
        return self._states[place] in b"of"

    def _reason_to_wait(self) -> str:
        if self._too_many_uncollected():
            return f"waiting for `ocr-producer collect {self._job} -o OUT --follow`"
        memory = self._ledger.client.info("memory")
        self._memory = memory_for_pages(memory)
        used, most = memory["used_memory"], memory.get("maxmemory", 0)
        if most and used > self._window.memory * most:
            return f"waiting: {used / most:.0%} of the broker's memory is used; collect some of `ocr-producer jobs`"
        return ""

    def _too_many_uncollected(self) -> bool:
        count = self._ledger.client.xlen(JobKeys.of(self._job).results)
        if count < min(UNWEIGHED, self._window.uncollected):
            return False
        # Weighed again when the stream has changed much, not at every step: over a slow line that would cost more
        # than the messages.
        if abs(count - self._weighed_at) >= UNWEIGHED or not self._record_bytes:
            self._weighed_at, self._record_bytes = count, self._uncollected.mean_bytes()
        return bool(count >= self._window.uncollected or count * self._record_bytes >= self._window.uncollected_bytes)

    def _step_uploading(self, uploader: Uploader, room: int) -> int:
        until = time.monotonic() + STEP_S
        # Of several jobs each has its part, so that none waits for another's bytes to go.
        limit = self._window.bytes // self._jobs
        waiting = uploader.waiting_bytes(limit // 2)
        left = Room(limit - waiting, self._memory.left, alone=not waiting)
        uploader.largest = self._memory.largest
        sent = 0
        while sent < room and time.monotonic() < until:
            batch = self._pack(uploader, min(room - sent, BATCH_PAGES), left, until)
            if not batch:
                break
            # First the bytes, then the ledger, then the queue: whoever gets the message finds the bytes.
            for task in uploader.send(batch):
                self._send(task)
                sent += 1
        if self._needs and not left.has_memory(self._needs):
            self.waiting = f"waiting until the broker has memory for a page of {self._needs / 1e6:.0f} MB"
        return sent

    def _pack(self, uploader: Uploader, pages: int, left: Room, until: float) -> list[Parcel]:
        """Pages that fit in what is left; one that does not waits for another call, and holds nothing large meanwhile.

        After ``until`` (of `time.monotonic`) no other is begun.
        """
        batch: list[Parcel] = []
        size = 0
        while len(batch) < pages and size < BATCH_BYTES and self._may_begin(uploader, left):
            parcel = uploader.kept.take() or self._next_parcel(uploader, until)
            if parcel is None:
                self._needs *= bool(self._unsent)
                break
            self._needs = self._like = len(parcel.data)
            if not left.fits(self._needs):
                if not uploader.keep(parcel):
                    self._unsent.appendleft(parcel.line)
                break
            left.take(self._needs)
            size += self._needs
            self._needs = 0
            batch.append(parcel)
        return batch

    def _may_begin(self, uploader: Uploader, left: Room) -> bool:
        """Whether the next page is to be had: its size is known, or nobody knows it, or it will be like the last."""
        if self._needs or not self._unsent or not uploader.is_dear(self._unsent[0], self._like):
            return left.fits(self._needs)
        return left.alone or self._like <= left.window

    def _next_parcel(self, uploader: Uploader, until: float) -> Parcel | None:
        # A job of pages that are all refused, or all done, must not keep others from being fed (producer/web).
        while time.monotonic() < until:
            line = None if self._is_pending else uploader.aside.due()
            if line is None and not self._unsent:
                lines = [] if uploader.aside.is_full else self._take(LOOK_AHEAD)
                if not lines:
                    if not uploader.aside:
                        self._at_the_end(0)
                    return None
                self._unsent.extend(uploader.unsent(lines))
                continue
            line = line or self._unsent.popleft()
            self._is_pending = False
            try:
                return uploader.pack(line)
            except CannotSendError as reason:
                uploader.refuse(line, reason)
            except NotYetError:
                self._unsent.appendleft(line)
                self._is_pending = True  # to ask for another would begin it anew
                return None
            except MachineFault as fault:
                uploader.put_aside(line, fault)
        return None

    def _feed(self, lines: list[ManifestLine]) -> int:
        for line in lines:
            if line.problem is not None:
                refuse(self._ledger, self._task(line), line.problem.type, line.problem.message)
        tasks = [self._task(line) for line in lines if line.problem is None]
        # First the ledger, then the queue: a crash in between leaves a page the reconciler finds, never a page that
        # is sent twice by us.
        fresh = set(self._ledger.feed(tasks))
        for task in tasks:
            if task.index in fresh:
                self._send(task)
        return len(lines) - len(tasks) + len(fresh)

    def _task(self, line: ManifestLine) -> ImageTask:
        return ImageTask(
            job=self._job,
            index=line.index,
            image=line.image,
            uri=line.uri,
            page=line.page,
            limit_side=self._limit_side,
            options=self._options,
            epoch=self._epoch,
        )
