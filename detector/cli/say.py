"""All that our programs say on a terminal goes through here: names in it are strangers', and no terminal obeys them.

Where each line escaped its names by itself, three forgot it: a worker's password, or a PDF of such a name, set the
title and the clipboard of the terminal of whoever collected. tests/test_imports.py refuses `click.echo` and `print`
elsewhere.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from detector.errors import printable, printable_json


def say(*lines: str) -> None:
    r"""Lines on stderr, each `printable`: a newline in one is shown as ``\x0a``, and begins no other."""
    print("\n".join(map(printable, lines)), file=sys.stderr, flush=True)


def tell(*lines: str) -> None:
    """Lines on stdout, as `say`."""
    print("\n".join(map(printable, lines)), flush=True)


def tell_json(value: Any) -> None:
    """A line of JSON on stdout, for programs."""
    print(printable_json(json.dumps(value)), flush=True)


class PrintableFormatter(logging.Formatter):
    """Entries without control characters; further lines are indented, so that none can pass for an entry."""

    def format(self, record: logging.LogRecord) -> str:
        """The entry as text."""
        return "\n  ".join(map(printable, super().format(record).split("\n")))


def log_printable() -> None:
    """From now on warnings that go to stderr, since the program has no log, are `printable` too."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PrintableFormatter())
