"""Pages counted by a process with limits, of PDFs with the library that the workers open them with."""

from __future__ import annotations

import os
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import msgspec

from detector.images.pdf_tree import Listed, believed
from detector.images.regular_file import seen_as
from producer.detector_process.line_process import LineProcess
from producer.errors import CannotCountError, MissingPagesError
from producer.sources.count_pages import CountAnswer, Question
from producer.sources.page_count import PageCount
from producer.sources.scan_time import USED_UP, ScanTime

COUNT_TIMEOUT_S = 20.0
PDFIUM, PYPDF = "detector.images.count_pages", "producer.sources.count_pages"


def can_count() -> bool:
    """Whether this machine has pdfium (the ``worker`` extra), found out without loading it."""
    return find_spec("pypdfium2") is not None


def program() -> str:
    """What counts PDFs on this machine."""
    return PDFIUM if can_count() else PYPDF


class PageCounter:
    """A counting process, started at the first file and again after it died."""

    def __init__(self, timeout_s: float = COUNT_TIMEOUT_S, module: str = "", scan_time: ScanTime | None = None) -> None:
        """Start nothing yet.

        Args:
            timeout_s: how long one file may take, seconds.
            module: the program; default: `program`'s.
            scan_time: what all files of the scan may take; default: any number may take `timeout_s`.
        """
        self._time = scan_time
        self._timeout_s = timeout_s
        self._child = LineProcess(module or program(), timeout_s)

    def close(self) -> None:
        """End the process. Safe to call twice."""
        self._child.stop()

    def count(self, path: Path) -> int:
        """The pages of a PDF.

        Raises:
            MissingPagesError: it lists more pages than any worker can open, or fewer than it says it has.
            CannotCountError: it is damaged or locked, or the process died over it or took too long, or the files
                before it did.
        """
        if self._time is not None:
            self._time.grant(path)
            if not self._time.left_s():
                raise CannotCountError(f"{USED_UP}; its worker counts them")
        with self._time.spending(self._timeout_s) if self._time else nullcontext():
            found = self._ask(Question(path=quote(os.fsencode(path)), seen=seen_as(path)))
        if found.broken:
            raise MissingPagesError(found.pages, found.broken)
        return found.pages

    def _ask(self, question: Question) -> PageCount:
        line = self._child.ask(msgspec.json.encode(question))
        if not line:
            raise CannotCountError("the counting process died over it, or took too long")
        try:
            answer = msgspec.json.decode(line, type=CountAnswer)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._child.stop(kill=True)
            raise CannotCountError("the counting process gave no readable answer") from None
        if not answer.ok:
            raise CannotCountError(answer.error)
        pages, broken = believed(answer.pages, Listed(answer.listed, answer.most))
        return PageCount(pages, broken or answer.broken)
