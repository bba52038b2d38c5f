"""How a log line looks: image names, messages and host names in it are strangers', and a log is read in a terminal."""

from __future__ import annotations

import logging
import mmap
import time
from collections.abc import Callable
from typing import Any

from detector.cli.say import PrintableFormatter

FORMAT = "%(asctime)s %(levelname)s %(message)s"
MOST_ENTRY = 8 << 10
"""Characters of an entry: ours and their tracebacks have 5,000; Celery writes out whatever it was sent."""

_KINDS = 1 << 12


def shortened(text: str, most: int = MOST_ENTRY) -> str:
    """The text, or its beginning and end: a traceback says last what happened. Somewhat longer than `most`."""
    left_out = len(text) - most
    half = most // 2
    return text if left_out <= 0 else f"{text[:half]} [... {left_out:,} characters ...] {text[-half:]}"


class ShortFormatter(PrintableFormatter):
    """Entries of a bounded length, too: Celery writes out whatever it was sent."""

    def __init__(self, form: str = FORMAT) -> None:
        super().__init__(form)

    def format(self, record: logging.LogRecord) -> str:
        """The entry as text."""
        return shortened(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Before it is escaped, too, which takes 0.1 s of 1 MB."""
        return shortened(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        """As `formatMessage`."""
        return shortened(super().formatException(ei))


class FewOfEach(logging.Filter):
    """Of lines of one kind a few a minute; the next one says how many were left out. For what strangers have logged.

    Whoever may write to Redis has each junk broadcast logged: 70 MB in 90 s. A kind is a place in the code: some
    libraries put what they were sent into the format itself. Processes that this one forks count with it: else each new
    child of a worker would begin anew, ten times a second where what it is sent is refused at once. Lines for people
    who look for a fault (DEBUG) are all logged.

    Args:
        most: lines of one kind in a period.
        every_s: the period, seconds.
        clock: seconds, monotonic.
    """

    def __init__(self, most: int = 5, every_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._most, self._every_s, self._clock = most, every_s, clock
        # Of each kind: when its period began, and lines in it. Two kinds that meet in a place count as one.
        self._seen = memoryview(mmap.mmap(-1, 16 * _KINDS)).cast("d")

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log it."""
        if record.levelno < logging.INFO:
            return True
        place, now = 2 * (hash((record.pathname, record.lineno)) % _KINDS), self._clock()
        since, count = self._seen[place], int(self._seen[place + 1])
        if now - since >= self._every_s:
            if (left_out := count - self._most) > 0:
                record.msg = f"{record.msg} ({left_out} more like it in between)"
            since, count = now, 0
        self._seen[place], self._seen[place + 1] = since, count + 1
        return count < self._most


def configure_logging(level: int, form: str = FORMAT, *, few: bool = False) -> None:
    """Log to stderr from this level on.

    Args:
        level: as in `logging`.
        form: of an entry.
        few: of each place in the code five lines a minute, whoever logs: for a program whose lines strangers cause.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(ShortFormatter(form))
    if few:
        handler.addFilter(FewOfEach())
    logging.basicConfig(level=level, handlers=[handler])
