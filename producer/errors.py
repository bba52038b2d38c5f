"""What ends a command of the producer with one line. Each class says with which exit code."""

from __future__ import annotations

from typing import ClassVar

from detector.exit_codes import ExitCode
from detector.images.pdf_tree import NO_MORE as NO_MORE

UNCOUNTED = "could not be counted"
"""By these words the failed record of a file's pages of unknown number is known (sources/scan.py)."""


class ProducerError(Exception):
    """Something the user can put right. The message is one line that says what, and how.

    Attributes:
        exit_code: of the command that it ends.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


class NothingToDoError(ProducerError):
    """There is no page to detect: no image in the sources, no failed page to try again, no results to convert."""

    exit_code = ExitCode.NOTHING


class NoSuchJobError(ProducerError):
    """No job of this name, here or on the broker."""

    exit_code = ExitCode.NOTHING


class OtherJobError(ProducerError):
    """A folder, a results file or a job's name belongs to another job. The message names both and the remedy."""


class JobInterruptedError(ProducerError):
    """Ctrl-C or SIGTERM. The message says how to go on."""

    exit_code = ExitCode.INTERRUPTED


class CannotCountError(ProducerError):
    """A file's pages cannot be counted: damaged, encrypted, or not what its name says."""


class MissingPagesError(CannotCountError):
    """A file has more pages than can be opened.

    Attributes:
        pages: that can be opened.
    """

    def __init__(self, pages: int, message: str) -> None:
        super().__init__(message)
        self.pages = pages
