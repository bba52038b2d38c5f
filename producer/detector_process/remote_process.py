"""Servers of buckets and pictures, asked by a process that may be lost: the time that an answer may take ends there.

Time-outs of http.client and aiohttp are of one read each: a byte every five seconds is no time-out, for ever.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from detector.errors import CorruptImage, ImageError, NotFound, TooLarge, UnsupportedFormat
from producer.detector_process.line_process import LineProcess
from producer.detector_process.members import MemberTaken
from producer.detector_process.remote_program import Question, WantedCopy, WantedCount, WantedList
from producer.errors import CannotCountError
from producer.sources.count_pages import CountAnswer
from producer.sources.page_count import PageCount
from producer.sources.readers import Listed
from producer.sources.scan_time import USED_UP, ScanTime
from worker.storage.bound import Bound
from worker.storage.remote import MAX_REMOTE_BYTES, TIMEOUT_S
from worker.storage.spool import MachineFault

LIST_S = 120.0
"""For a thousand objects, with what botocore asks again; S3 takes 0.2 s."""

COUNT_S = 60.0
"""For one PDF or TIFF of a bucket: its directory is read over the network."""

COUNTING_S = 600.0
"""For all of a page's job; the workers count what is left."""

COPY_S, COPY_S_PER_MIB = 60.0, 8.0
"""For one picture, and for what of it is there: 1 Mbit/s is enough for any size, half of it for 7 MiB."""

MOST_KEYS = 1000
MOST_LISTS = 50_000
"""For one address, a thousand objects each: as many as a job may have pages. A server can say for ever that there are
more."""

MOST_LOST = 8
"""Answers in a row that did not come, before no more objects are counted, and no more pictures drawn."""

LOOK_S = 0.5
_ERRORS: dict[str, type[ImageError]] = {
    kind.type: kind for kind in (CorruptImage, NotFound, TooLarge, UnsupportedFormat)
}
_Answer = TypeVar("_Answer", Listed, CountAnswer, MemberTaken)


class RemoteProcess:
    """A ``python -m producer.detector_process.remote_program``, started at the first question. Close it.

    Attributes:
        late: copies in a row that did not come in time, or took the process down.
        uncounted: the same of objects to count.
    """

    def __init__(self, scan_time: ScanTime | None = None) -> None:
        """Start nothing yet.

        Args:
            scan_time: what listing may take, and when its turn ends; None: each answer has its own time alone.
        """
        self._child = LineProcess("producer.detector_process.remote_program")
        self._time = scan_time
        self._counting_left = math.inf if scan_time is None else COUNTING_S
        self.late = self.uncounted = 0

    def close(self) -> None:
        """End the process. Safe to call twice."""
        self._child.stop(kill=True)  # it holds nothing, and may be waiting for a server

    def list_bucket(self, root: str, on_wait: Callable[[], None]) -> Iterator[Listed]:
        """The objects below a prefix, a thousand at a time; the last part says why it is, if not for the list's end.

        Args:
            root: ``bucket/prefix``.
            on_wait: called before each question and while its answer is waited for; what it raises ends it.
        """
        next_list = ""
        for _ in range(MOST_LISTS):
            on_wait()
            left = self._left_s()
            if left <= 0:
                yield Listed(ended=USED_UP)
                return
            wanted = WantedList(quote(root, errors="surrogateescape"), next_list, MOST_KEYS)
            most_s = min(LIST_S, left)
            with self._time.spending(most_s) if self._time else nullcontext():
                part = self._ask(wanted, Listed, most_s, on_wait)
            if part is None:
                on_wait()  # of a turn that is over it says so
                if self._left_s() <= 0:
                    yield Listed(ended=USED_UP)
                    return
                part = Listed(error=f"its server gave no list within {LIST_S:.0f} s, or one that took its process down")
            yield part
            next_list = part.next_list
            if not next_list:
                return
        yield Listed(ended=f"it has more than {MOST_LISTS * MOST_KEYS:,} objects")

    def count_object(self, key: str, kind: str, on_wait: Callable[[], None]) -> PageCount:
        """The pages of a PDF or TIFF in a bucket.

        Args:
            key: ``bucket/key``.
            kind: ``pdf`` or ``tiff``.
            on_wait: as for `list_bucket`.

        Raises:
            CannotCountError: it is damaged or locked, cannot be had, or the process died over it or took too long, or
                others did before it.
        """
        limit = min(COUNT_S, self._counting_left, self._turn_s())
        if limit <= 0 or self.uncounted >= MOST_LOST:
            raise CannotCountError("its bucket takes too long; its worker counts them")
        began = time.monotonic()
        try:
            wanted = WantedCount(quote(key, errors="surrogateescape"), kind)
            answer = self._ask(wanted, CountAnswer, limit, on_wait)
        finally:
            self._counting_left -= time.monotonic() - began
        self.uncounted = self.uncounted + 1 if answer is None else 0
        if answer is None:
            on_wait()
            raise CannotCountError(f"its server gave no answer within {limit:.3g} s, or what counts died over it")
        if not answer.ok:
            raise CannotCountError(answer.error)
        return PageCount(answer.pages, answer.broken)

    def fetch(self, uri: str, target: Path, bound: Bound | None = None, url_roots: tuple[str, ...] = ()) -> None:
        """Copy what is at an address to a file; redirects are followed to its own host, and below ``url_roots``.

        Args:
            uri: ``s3://`` or ``https://``, of one's own scan: what it names may be fetched.
            target: the file.
            bound: how large it may be; None: ``MAX_REMOTE_BYTES``.
            url_roots: of ``OCRFLEET_ROOTS``: where else a redirect may lead, as for workers.

        Raises:
            NotFound: not there, or not within `COPY_S` and `COPY_S_PER_MIB`.
            TooLarge: it is above the bound.
            UnsupportedFormat: ``s3://`` without the ``s3`` extra.
            MachineFault: the file cannot be written.
        """
        bound = bound or Bound(MAX_REMOTE_BYTES, "copy it to a folder first")
        with suppress(ValueError):  # "https://[": the program says so
            url_roots = (f"https://{urlsplit(uri).netloc}", *url_roots)
        # Whole under its name: who takes a page out of the copy before may be about to open it.
        part = target.with_name(f"{target.name}.part")
        out = quote(os.fsencode(part))
        wanted = WantedCopy(uri, url_roots, out, bound.most_bytes, bound.remedy)
        part.unlink(missing_ok=True)
        began = time.monotonic()

        def look() -> None:
            size = part.stat().st_size if part.exists() else 0
            if time.monotonic() - began > COPY_S + COPY_S_PER_MIB * size / (1 << 20):
                raise _LateError

        try:
            longest = COPY_S + COPY_S_PER_MIB * bound.most_bytes / (1 << 20)
            answer = self._ask(wanted, MemberTaken, longest, look)
            if answer is not None and not answer.type:
                part.replace(target)
        except _LateError:
            answer = None
        finally:
            part.unlink(missing_ok=True)
        took = time.monotonic() - began
        # One that says nothing at all ends by http.client's time-out.
        self.late = self.late + 1 if answer is None or (answer.type and took > TIMEOUT_S) else 0
        if answer is None:
            raise NotFound(f"{uri}: its server did not send it within {took:.0f} s")
        if answer.errno:
            raise MachineFault(answer.errno, answer.error, str(target))
        if answer.type:
            raise _ERRORS.get(answer.type, NotFound)(answer.error)

    def _turn_s(self) -> float:
        """Seconds until the scan's turn ends."""
        ends_at = self._time.ends_at if self._time else None
        return math.inf if ends_at is None else max(0.0, ends_at - time.monotonic())

    def _left_s(self) -> float:
        return self._time.left_s() if self._time else math.inf

    def _ask(
        self, question: Question, kind: type[_Answer], timeout_s: float, on_wait: Callable[[], None]
    ) -> _Answer | None:
        """The answer; None: it did not come in time, or the process died over it, and is ended."""
        try:
            self._child.begin(msgspec.json.encode(question), timeout_s)
            while (line := self._child.answer(LOOK_S)) is None:
                on_wait()
        except BaseException:
            self._child.stop(kill=True)  # in the middle of an answer
            raise
        return msgspec.json.decode(line, type=kind) if line else None


class _LateError(Exception):
    """What a picture may take is over."""
