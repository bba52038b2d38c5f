"""Takes single pages out of PDFs, within limits; as a program, one page a line.

``python -m producer.detector_process.pdf_pages`` reads JSON lines on stdin::

    {"path": "/data/a%20b.pdf", "page": 3, "out": "/tmp/x/page.pdf"}

and answers each with ``{"ok": true}``, or false where pypdf cannot do it within memory and time.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote_to_bytes

import msgspec

from detector.images.regular_file import Identity, SeenPath, open_regular, seen_as
from detector.memory import limit_memory
from producer.detector_process.line_process import LineProcess
from producer.detector_process.member_fetcher import NotYetError
from producer.detector_process.put_aside import NO_ROOM
from producer.sources.single_page import alone, numbers_as_pdfium, open_pdf
from worker.storage.spool import MachineFault

MEMORY_BYTES = 256 << 20
"""Of which Python and pypdf take 30 MiB."""

PAGE_TIMEOUT_S = 20.0


class PageWanted(msgspec.Struct, frozen=True):
    """One line: percent-encoded file names, and the page from 0."""

    path: str
    page: int
    out: str
    seen: Identity | None = None


class PageTaken(msgspec.Struct, frozen=True):
    """Its answer.

    Attributes:
        ok: whether it is there.
        errno: not 0: there was no room for it.
    """

    ok: bool
    errno: int = 0


class PdfPages:
    """The process, started at the first PDF and again after it was lost over one."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._child = LineProcess("producer.detector_process.pdf_pages", PAGE_TIMEOUT_S)
        self._asked: PageWanted | None = None

    def close(self) -> None:
        """End the process. Safe to call twice."""
        self._child.stop()

    def take(self, path: Path, page: int, out: Path, wait_s: float | None = None) -> bool:
        """Write one page as a PDF of its own. False: it cannot be taken out, and there is no such file.

        Args:
            path: the PDF.
            page: from 0.
            out: the file to write.
            wait_s: how long others may be kept waiting, seconds; None: until it is there.

        Raises:
            NotYetError: it is not there after so long; ask for the same again.
            MachineFault: there is no room for it.
        """
        question = PageWanted(quote(os.fsencode(path)), page, quote(os.fsencode(out)), seen_as(path))
        if self._asked != question:
            if self._asked is not None:
                self._child.stop(kill=True)
            out.unlink(missing_ok=True)
            self._child.begin(msgspec.json.encode(question), PAGE_TIMEOUT_S)
            self._asked = question
        line = self._child.answer(wait_s)
        if line is None:
            raise NotYetError
        self._asked = None
        try:
            taken = msgspec.json.decode(line, type=PageTaken)
        except (msgspec.MsgspecError, UnicodeDecodeError):  # no answer is none
            taken = PageTaken(False)
        if not taken.ok:
            out.unlink(missing_ok=True)
        if taken.errno:
            raise MachineFault(taken.errno, os.strerror(taken.errno), str(out))
        return taken.ok


def serve(lines: BinaryIO, answers: BinaryIO) -> None:
    """Answers one line after the other until the input ends."""
    for line in lines:
        limit_memory(MEMORY_BYTES)
        answers.write(msgspec.json.encode(_take(msgspec.json.decode(line, type=PageWanted))) + b"\n")
        answers.flush()


def _take(wanted: PageWanted) -> PageTaken:
    path, out = (Path(os.fsdecode(unquote_to_bytes(name))) for name in (wanted.path, wanted.out))
    try:
        with open_regular(SeenPath.to(path, wanted.seen)) as stream, out.open("wb") as target:
            reader = open_pdf(stream)
            if not numbers_as_pdfium(reader):
                return PageTaken(False)
            alone(reader, wanted.page).write(target)
    except Exception as error:  # hostile and sloppy files raise any class; the worker will say what is wrong
        return PageTaken(False, error.errno if isinstance(error, OSError) and error.errno in NO_ROOM else 0)
    return PageTaken(True)


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
