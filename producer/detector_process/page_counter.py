"""PDF pages counted by a process of the detector, with the library that the workers open them with."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import msgspec

from producer.detector_process.line_process import LineProcess
from producer.errors import CannotCountError, MissingPagesError

COUNT_TIMEOUT_S = 20.0


class CountAnswer(msgspec.Struct, frozen=True):
    """One line of ``python -m detector.images.count_pages``; see there."""

    ok: bool
    pages: int = 0
    listed: int = 0
    error: str = ""


def can_count() -> bool:
    """Whether this machine has pdfium (the ``worker`` extra), found out without loading it."""
    return find_spec("pypdfium2") is not None


class PageCounter:
    """A ``python -m detector.images.count_pages`` process, started at the first PDF and again after it died."""

    def __init__(self, timeout_s: float = COUNT_TIMEOUT_S) -> None:
        self._child = LineProcess("detector.images.count_pages", timeout_s)

    def close(self) -> None:
        """End the process. Safe to call twice."""
        self._child.stop()

    def count(self, path: Path) -> int:
        """The pages of a PDF.

        Raises:
            MissingPagesError: it lists more pages than any worker can open.
            CannotCountError: it is damaged or locked, or the process died over it or took too long.
        """
        line = self._child.ask(msgspec.json.encode({"path": quote(os.fsencode(path))}))
        if not line:
            raise CannotCountError("the counting process died over it, or took too long")
        try:
            answer = msgspec.json.decode(line, type=CountAnswer)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._child.stop(kill=True)
            raise CannotCountError("the counting process gave no readable answer") from None
        if not answer.ok:
            raise CannotCountError(answer.error)
        if answer.listed > answer.pages >= 1:
            raise MissingPagesError(
                answer.pages,
                f"its page tree lists more than the {answer.pages} it says it has; `qpdf in.pdf out.pdf` may repair it",
            )
        return answer.pages
