"""What one process read of a folder's results, to read on from there: a watched folder goes on many times.

A bundle of files read all results that were there, twice, before: 8 s for one more file behind a million pages.
"""

from __future__ import annotations

from pathlib import Path

from producer.output.totals import SummedUp


class KnownResults:
    """Holds for as long as nobody else touches the file between two runs. Memory: one byte a page.

    Attributes:
        marks: what each page's record says, for the next `producer.job.collect.Collector`; empty: not known.
        totals: of the records, as far as they were read.
    """

    def __init__(self) -> None:
        """Nothing was read."""
        self._stamp: tuple[int, ...] = ()
        self.marks = bytearray()
        self.totals = SummedUp()

    def check(self, results: Path) -> None:
        """Before a run, for who holds the folder: forget all unless the file is as it was left, by a run that ended."""
        if not self._stamp or self._stamp != _stamp(results):
            self.marks, self.totals = bytearray(), SummedUp()
        self._stamp = ()

    def keep(self, results: Path) -> None:
        """After a run that ended well."""
        self._stamp = _stamp(results)


def _stamp(file: Path) -> tuple[int, ...]:
    """What changes with the file; nothing where there is none."""
    try:
        status = file.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
