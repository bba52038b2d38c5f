"""What a scan opens strangers' files with: processes that may be lost, each with limits of memory and time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from producer.archive_process.lister import ArchiveLister
from producer.detector_process.page_counter import PageCounter
from producer.detector_process.remote_process import RemoteProcess
from producer.sources.readers import Readers
from producer.sources.scan_time import ScanTime


@contextmanager
def limited_readers(scan_time: ScanTime | None = None) -> Iterator[Readers]:
    """Readers whose processes start when they are needed, and end with the block.

    Args:
        scan_time: what they may take for all files together, and for listing buckets; default: of one job, and any
            time for buckets whose servers answer.
    """
    # Before the default: what a user's own bucket takes is his, and he can end it.
    remote = RemoteProcess(scan_time)
    scan_time = scan_time or ScanTime()
    with (
        closing(ArchiveLister(scan_time=scan_time)) as lister,
        closing(PageCounter(scan_time=scan_time)) as counter,
        closing(remote),
    ):
        yield Readers(lister.members, counter.count, remote.list_bucket, remote.count_object, scan_time)
