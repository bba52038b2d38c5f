"""What one archive may cost in all (all of a job: `scan_time`). Else each of a million members began the patience anew.

A member of 254 MB of zeros behind ``%PDF`` takes 260 KB of a zip, and three seconds to count. A zip of 1 GiB held 4,000
of them, and all other scans of the page for three hours.
"""

from __future__ import annotations

import math
import time

from producer.errors import CannotCountError

COUNTING_S = 300.0
COUNTING_S_PER_MIB = 1.0
"""Seconds in which pages are counted: 5 ms for each of 200 PDFs of 5 KB in a MiB. Of larger ones there are fewer."""

COUNTED_BYTES = 1 << 30
COUNTED_RATIO = 30
"""Bytes unpacked for that, in all and for each byte of the archive: black and white scans shrink to a tenth."""

READING_S = 600.0
READING_S_PER_MIB = 1.0
"""Seconds of the processor for all else. Unpacking .tar.bz2, the slowest, takes a third of that."""


class TooLongError(Exception):
    """An archive is given up; what was found of it stays."""


class Allowance:
    """What is left for one archive.

    Once nothing is left to count with, each PDF and TIFF that follows has one page for now, as one that is too large to
    be counted has: its worker says how many there are.
    """

    def __init__(self, archive_bytes: int, counting_s: float = math.inf) -> None:
        """Begin.

        Args:
            archive_bytes: its size, as `held_bytes` has it.
            counting_s: what its scan has left for counting.
        """
        mib = archive_bytes / (1 << 20)
        self._counting_s = min(counting_s, COUNTING_S + COUNTING_S_PER_MIB * mib)
        self._bytes = COUNTED_BYTES + COUNTED_RATIO * archive_bytes
        self._ends_at = time.process_time() + self._counting_s + READING_S + READING_S_PER_MIB * mib
        self._begun: float | None = None

    def check(self) -> None:
        """Called now and then while the archive is read.

        Raises:
            TooLongError: it has taken too much of the processor.
        """
        if time.process_time() > self._ends_at:
            raise TooLongError("it takes too long to read; unpack it first")

    def begin(self) -> None:
        """A member's pages are to be counted.

        Raises:
            CannotCountError: nothing is left for it.
        """
        if self._counting_s <= 0 or self._bytes <= 0:
            raise CannotCountError("its archive takes too long to count; its worker counts them")
        self._begun = time.monotonic()

    def unpacked(self, count: int) -> None:
        """So many bytes of the member were unpacked."""
        self._bytes -= count

    def end(self) -> None:
        """The member is done with, whether it was counted or not."""
        if self._begun is not None:
            self._counting_s -= time.monotonic() - self._begun
            self._begun = None
