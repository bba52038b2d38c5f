"""Takes single pages out of PDFs, within limits; as a program, one page a line.

``python -m producer.detector_process.pdf_pages`` reads JSON lines on stdin::

    {"path": "/data/a%20b.pdf", "page": 3, "out": "/tmp/x/page.pdf"}

and answers each with ``{"ok": true, "seconds": 0.002}``, or false where pypdf cannot do it within memory and time.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, unquote_to_bytes

import msgspec

from detector.images.regular_file import Identity, SeenPath, facts_of, open_regular, read_error, seen_as
from detector.memory import limit_memory, resident_bytes
from producer.answer_line import answer_line
from producer.detector_process.put_aside import NO_ROOM
from producer.detector_process.turn_process import TurnProcess, Turns
from producer.sources.held_bytes import held_bytes
from producer.sources.page_tree import PageTree
from producer.sources.single_page import alone, numbers_as_pdfium, open_pdf, page_at
from worker.storage.spool import MachineFault, is_of_the_machine

if TYPE_CHECKING:
    from pypdf import PdfReader

MEMORY_BYTES = 256 << 20
"""Of which Python and pypdf take 30 MiB."""

PAGE_TIMEOUT_S = 20.0
"""For opening the PDF, and for a page that is found."""

FIND_TIMEOUT_S = 60.0
"""More are left for finding it: a walk past 100,000 pages takes 12 s, on a slow machine 30."""

FILE_S, FILE_S_PER_MIB = 60.0, 2.0
"""For all pages of one PDF, besides what each brings: who made it must not hold up what is sent behind it. Those of
1 KB took 8 s each, and it may say that it has 100,000. A tree that pypdf has to read anew for each page costs honest
files more the longer they are."""

PAGE_S, PAGE_S_PER_MIB = 0.1, 0.1
"""Each page brings when it was taken out; nearly all take 2 to 20 ms."""

JOB_S, LEAST_S = 600.0, 5.0
"""For all PDFs of a job together, beyond what each brings; with less than so many seconds none is begun, and its pages
travel with the whole PDF. A thousand of 0.5 KB, which took 52 s each, were under `FILE_S` and held up what was sent
behind them for 14 hours. Of 1,410 real PDFs none used more than 0.04 s. One that is too large to travel whole has
`LEAST_S` for itself all the same: without it an honest one in an archive, which brings nothing, failed for others."""

GROWN_BYTES = 64 << 20
"""After pages that left so much more than the open PDF takes it is opened again."""


class PageWanted(msgspec.Struct, frozen=True):
    """One line: percent-encoded file names, and the page from 0.

    Attributes:
        whose: the PDF's address, percent-encoded. Copies of many have one name: the answer about a page that was given
            up was another PDF's page of that number.
        copy: which copy lies at `path`, as `ProducerStorage.copies` has it: a file's size, inode and time may be those
            of the one before it, whose pages were taken for this one's.
    """

    path: str
    page: int
    out: str
    seen: Identity | None = None
    whose: str = ""
    copy: int = 0


class PageTaken(msgspec.Struct, frozen=True):
    """Its answer.

    Attributes:
        ok: whether it is there.
        errno: not 0: there was no room for it, or a read of the file failed.
        seconds: of the processor that it took; not of the clock: a busy machine is no fault of the file's.
    """

    ok: bool
    errno: int = 0
    seconds: float = 0.0


class _Time:
    """What is left for the pages of a job's PDFs, in seconds; one PDF's pages come one after the other."""

    def __init__(self) -> None:
        self._whose: str | None = None
        self._brought_s = self._most_s = self._left_s = 0.0
        self._job_s = JOB_S

    def left_s(self, whose: str, path: Path, *, travels_whole: bool = True) -> float:
        """Seconds for another page of a PDF; 0 if no more of it are to be taken out."""
        if whose != self._whose:
            self._whose = whose
            self._job_s = max(0.0, self._job_s - max(0.0, self._most_s - self._left_s - self._brought_s))
            self._brought_s = _brings_s(whose, path)
            self._most_s = self._left_s = self._brought_s + min(FILE_S, self._job_s)
            if self._left_s < LEAST_S:
                self._left_s = self._most_s = 0.0 if travels_whole else LEAST_S
        return self._left_s

    def spent(self, seconds: float, page_bytes: int | None) -> None:
        """A page took so long; of how many bytes it is, None if it was not taken out."""
        share = 0.0 if page_bytes is None else PAGE_S + PAGE_S_PER_MIB * page_bytes / (1 << 20)
        self._left_s = max(0.0, min(self._most_s, self._left_s + share - max(0.0, seconds)))


def _brings_s(whose: str, path: Path) -> float:
    """What a PDF brings for all its pages."""
    with suppress(OSError):
        if "+" not in whose.partition(":")[0]:  # a member's copy may be a thousand times what its archive takes
            return FILE_S_PER_MIB * held_bytes(path, path.stat()) / (1 << 20)
    return 0.0


_turns = Turns()


class PdfPages:
    """A job's process, started at the first PDF, and again after it was lost over one or made room for another's."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._process: TurnProcess[PageWanted] = TurnProcess("producer.detector_process.pdf_pages", _turns)
        self._time = _Time()

    def close(self) -> None:
        """End the process. Safe to call twice."""
        self._process.leave()

    def take(
        self,
        path: Path,
        page: int,
        out: Path,
        wait_s: float | None = None,
        *,
        whose: str = "",
        copy: int = 0,
        travels_whole: bool = True,
    ) -> bool:
        """Write one page as a PDF of its own. False: it cannot be taken out, and there is no such file.

        So it is of each page of a PDF that has used up its time (`FILE_S`), and of small ones once their job's PDFs
        have (`JOB_S`).

        Args:
            path: the PDF.
            page: from 0.
            out: the file to write.
            wait_s: how long others may be kept waiting, seconds; None: until it is there.
            whose: the address of the PDF, which may be copied to ``path`` for each page; default: the path.
            copy: which copy it is.
            travels_whole: whether its pages can be had otherwise; a PDF of which they cannot has `LEAST_S` always.

        Raises:
            NotYetError: it is not there after so long; ask for the same again.
            MachineFault: there is no room for it, or a read of the file failed.
        """
        address = quote(whose, errors="surrogateescape") or quote(os.fsencode(path))
        where, target = (quote(os.fsencode(name)) for name in (path, out))
        question = PageWanted(where, page, target, seen_as(path), address, copy)
        if lost_s := self._process.lost_s:  # ended for another job's, in the middle: that is this PDF's time too
            self._process.lost_s = 0.0
            self._time.spent(lost_s, None)
        left_s = self._time.left_s(whose or address, path, travels_whole=travels_whole)
        if self._process.asked != question:
            out.unlink(missing_ok=True)
            if not left_s:
                return False
        line = self._process.answer(question, min(left_s, PAGE_TIMEOUT_S + FIND_TIMEOUT_S), wait_s)
        try:
            taken = msgspec.json.decode(line, type=PageTaken)
        except (msgspec.MsgspecError, UnicodeDecodeError):  # no answer is none; who asks may have come back late
            taken = PageTaken(False, seconds=min(time.monotonic() - self._process.begun, PAGE_TIMEOUT_S))
        self._time.spent(taken.seconds, _bytes_of(out) if taken.ok else None)
        if not taken.ok:
            out.unlink(missing_ok=True)
        if taken.errno:
            raise MachineFault(taken.errno, os.strerror(taken.errno), str(out if taken.errno in NO_ROOM else path))
        return taken.ok


class _Taker:
    """Keeps the PDF open for its next page: to open one of 100,000 pages takes two seconds, and to find a page ten."""

    def __init__(self) -> None:
        self._facts: tuple[object, ...] = ()
        self._tree = PageTree()
        self._stream: BinaryIO | None = None
        self._reader: PdfReader | None = None
        self._held_bytes = 0

    def take(self, wanted: PageWanted) -> PageTaken:
        path, out = (Path(os.fsdecode(unquote_to_bytes(name))) for name in (wanted.path, wanted.out))
        for _ in range(2):
            was_kept = False
            try:
                was_kept = self._open(SeenPath.to(path, wanted.seen), wanted.whose, wanted.copy)
                return PageTaken(self._write(wanted.page, out))
            except Exception as error:  # hostile and sloppy files raise any class; the worker will say what is wrong
                errno = _machines(error) or _machines(read_error(self._stream))
            self._drop()
            if errno or not was_kept:  # else it may be for the pages before it
                break
        return PageTaken(False, errno)

    def _open(self, path: SeenPath, whose: str, copy: int) -> bool:
        """Whether it is still open: the same copy of the same PDF, as long and as old as it was."""
        stream = open_regular(path)
        facts = (whose, copy, *facts_of(os.fstat(stream.fileno())))
        if facts != self._facts:
            self._drop()
            self._tree, self._facts = PageTree(), facts
        if self._reader is not None:
            stream.close()
            return True
        self._stream = stream
        with _within(PAGE_TIMEOUT_S):
            self._reader = open_pdf(stream)
        self._held_bytes = resident_bytes()
        return False

    def _write(self, number: int, out: Path) -> bool:
        assert self._reader is not None
        place = self._tree.find(self._reader, number)
        with _within(PAGE_TIMEOUT_S):
            if place is not None:
                page = page_at(self._reader, place)
            else:  # what pypdf says, where it is sure
                self._reader.resolved_objects.clear()
                if not numbers_as_pdfium(self._reader):
                    self._drop()
                    return False
                page = self._reader.pages[number]
            with out.open("wb") as target:
                alone(self._reader, page).write(target)
        self._tree.forget(self._reader)
        is_left = bool(getattr(self._reader, "_known_objects", None))  # in the middle of reading something
        if place is None or is_left or resident_bytes() > self._held_bytes + GROWN_BYTES:
            self._drop()
        return True

    def _drop(self) -> None:
        """Where its pages are stays known."""
        self._tree.leave()
        self._reader = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        gc.collect()


def _bytes_of(file: Path) -> int:
    return file.stat().st_size


def _machines(error: BaseException | None) -> int:
    """The number of an error that is none of the file's; else 0."""
    if isinstance(error, OSError) and error.errno and (error.errno in NO_ROOM or is_of_the_machine(error)):
        return error.errno
    return 0


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """What takes longer ends this process: SIGALRM does, which nobody handles."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def serve(lines: BinaryIO, answers: BinaryIO) -> None:
    """Answers one line after the other until the input ends."""
    taker = _Taker()
    for line in lines:
        limit_memory(MEMORY_BYTES)
        began = time.process_time()
        taken = taker.take(msgspec.json.decode(line, type=PageWanted))
        taken = msgspec.structs.replace(taken, seconds=time.process_time() - began)
        answers.write(answer_line(taken))
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
