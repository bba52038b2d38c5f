"""Pages made small before they travel, by a process of the detector: the producer itself never loads a picture."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import msgspec

from detector.images.regular_file import seen_as
from producer.detector_process.line_process import ANSWER_TIMEOUT_S, LineProcess
from producer.errors import ProducerError


class ShrinkAnswer(msgspec.Struct, frozen=True):
    """One line of ``python -m detector.shrink``; see there."""

    ok: bool
    smaller: bool = False
    width: int = 0
    height: int = 0
    flags: tuple[str, ...] = ()
    share: float | None = None
    pages: int = 0
    type: str = "Internal"
    error: str = ""


class CannotShrinkError(ProducerError):
    """This machine has no image library to make pages smaller with. The message says what to install."""


class ShrinkerLostError(ProducerError):
    """This machine could not do it: the process died over the page, took too long, or found no memory or disk."""


def can_shrink() -> bool:
    """Whether this machine has what it takes (the ``worker`` extra), found out without loading it."""
    return find_spec("cv2") is not None


class Shrinker:
    """A ``python -m detector.shrink`` process, started at the first page and again after it died. A context manager."""

    def __init__(self, limit_side: int, max_pixels: int, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """Start nothing yet.

        Args:
            limit_side: longer side of what it writes at most, pixels.
            max_pixels: pages with more are refused before they are decoded.
            timeout_s: how long one page may take, seconds.
        """
        self.limit_side = limit_side
        self.max_pixels = max_pixels
        self._child = LineProcess("detector.shrink", timeout_s)

    def __enter__(self) -> Shrinker:
        """Nothing runs before the first page."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the process: in order, or at once after an error."""
        self._child.stop(kill=exc_type is not None)

    def shrink(self, path: Path, page: int, out: Path) -> ShrinkAnswer:
        """Write the page to ``out`` as JPEG at the limit, if it is larger.

        Raises:
            ShrinkerLostError: it did not come to an answer about the page.
        """
        job = {
            "path": quote(os.fsencode(path)),
            "page": page,
            "limit_side": self.limit_side,
            "max_pixels": self.max_pixels,
            "out": str(out),
            "seen": seen_as(path),
        }
        line = self._child.ask(msgspec.json.encode(job))
        if not line:
            raise ShrinkerLostError(f"the shrinking process died over {path} page {page}, or took too long")
        try:
            answer = msgspec.json.decode(line, type=ShrinkAnswer)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._child.stop(kill=True)
            raise ShrinkerLostError(f"the shrinking process gave no readable answer about {path} page {page}") from None
        if not answer.ok and answer.type == "Internal":  # no memory, no disk: of this machine, not of the page
            raise ShrinkerLostError(f"{path} page {page}: {answer.error}")
        return answer
