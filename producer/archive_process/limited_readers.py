"""What a scan opens strangers' files with: processes that may be lost, each with limits of memory and time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from producer.archive_process.lister import ArchiveLister
from producer.detector_process.page_counter import PYPDF, PageCounter
from producer.sources.readers import Readers
from producer.sources.scan_time import ScanTime

OBJECT_TIMEOUT_S = 60.0
"""For one PDF or TIFF of a bucket: its directory is read over the network."""


@contextmanager
def limited_readers(scan_time: ScanTime | None = None) -> Iterator[Readers]:
    """Readers whose processes start when they are needed, and end with the block.

    Args:
        scan_time: what they may take for all files together; default: of one job.
    """
    scan_time = scan_time or ScanTime()
    with (
        closing(ArchiveLister(scan_time=scan_time)) as lister,
        closing(PageCounter(scan_time=scan_time)) as counter,
        closing(PageCounter(OBJECT_TIMEOUT_S, PYPDF)) as objects,
    ):
        yield Readers(lister.members, counter.count, objects.count_object, scan_time)
