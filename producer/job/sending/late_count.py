"""Counts PDFs that no scan has counted and that are too large to travel whole: their workers see single pages."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from producer.detector_process.page_counter import PageCounter
from producer.errors import CannotCountError
from producer.job.sending.refusal import CannotSendError

FILE_S, JOB_S = 10.0, 60.0
"""For one PDF, and for all of a job: others wait for their turn meanwhile. An honest one takes less than a second."""


class LateCounter:
    """Of one job."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self._left_s = JOB_S

    def count(self, path: Path, shown: str) -> int:
        """The pages of a PDF.

        Args:
            path: of it, or of its copy.
            shown: its name, for people.

        Raises:
            CannotSendError: nobody can tell how many there are: its first page alone would pass for the whole.
            MachineFault: what counts cannot be started.
        """
        began = time.monotonic()
        try:
            if not self._left_s:
                raise CannotCountError(f"others of this job took more than {JOB_S:.0f} s")
            with closing(PageCounter(FILE_S)) as counter:
                return counter.count(path)
        except CannotCountError as error:
            said = (
                f"{shown}: its pages could not be counted ({error}), and it is too large to travel through Redis whole"
            )
            raise CannotSendError("TooLarge", f"{said}; use --transfer uri with a shared folder or s3://") from None
        finally:
            self._left_s = max(0.0, self._left_s - (time.monotonic() - began))
