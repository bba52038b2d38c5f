"""How a log line looks: image names, messages and host names in it are strangers', and a log is read in a terminal."""

from __future__ import annotations

import logging

from detector.errors import printable

FORMAT = "%(asctime)s %(levelname)s %(message)s"


class PrintableFormatter(logging.Formatter):
    """Entries without control characters; further lines are indented, so that none can pass for an entry."""

    def __init__(self, form: str = FORMAT) -> None:
        super().__init__(form)

    def format(self, record: logging.LogRecord) -> str:
        """The entry as text."""
        return "\n  ".join(map(printable, super().format(record).split("\n")))


def configure_logging(level: int, form: str = FORMAT) -> None:
    """Log to stderr from this level on."""
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter(form))
    logging.basicConfig(level=level, handlers=[handler])
