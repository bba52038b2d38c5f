"""How a log line looks: image names, messages and host names in it are strangers', and a log is read in a terminal."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from detector.errors import printable

FORMAT = "%(asctime)s %(levelname)s %(message)s"


class PrintableFormatter(logging.Formatter):
    """Entries without control characters; further lines are indented, so that none can pass for an entry."""

    def __init__(self, form: str = FORMAT) -> None:
        super().__init__(form)

    def format(self, record: logging.LogRecord) -> str:
        """The entry as text."""
        return "\n  ".join(map(printable, super().format(record).split("\n")))


class FewOfEach(logging.Filter):
    """Of lines of one kind a few a minute; the next one says how many were left out. For a logger that strangers move.

    Whoever may write to Redis has each junk broadcast logged: 70 MB in 90 s.

    Args:
        most: lines of one kind (one format) in a period.
        every_s: the period, seconds.
        clock: seconds, monotonic.
        by_place: those of one kind come from one line of code, not of one format. Libraries write what a stranger sent
            into it, so that each is another, and kept here.
    """

    def __init__(
        self,
        most: int = 5,
        every_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        *,
        by_place: bool = False,
    ) -> None:
        super().__init__()
        self._by_place = by_place
        self._most, self._every_s, self._clock = most, every_s, clock
        self._seen: dict[str, tuple[float, int]] = {}  # when the period of this kind began, and lines in it

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log it."""
        text, now = str(record.msg), self._clock()
        kind = f"{record.pathname}:{record.lineno}" if self._by_place else text
        since, count = self._seen.get(kind, (now, 0))
        if now - since >= self._every_s:
            if (left_out := count - self._most) > 0:
                record.msg = f"{text} ({left_out} more like it in between)"
            since, count = now, 0
        self._seen[kind] = (since, count + 1)
        return count < self._most


def configure_logging(level: int, form: str = FORMAT) -> None:
    """Log to stderr from this level on."""
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter(form))
    logging.basicConfig(level=level, handlers=[handler])
