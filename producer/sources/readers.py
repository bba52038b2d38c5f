"""What opens strangers' files for a scan: there is no default, so that nobody forgets the limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from producer.sources.archive import ListMembers
from producer.sources.page_count import CountPdf, PageCount
from producer.sources.scan_time import ScanTime

CountObject = Callable[[str, str], PageCount]
"""The key of a bucket's object (``bucket/key``) and its kind (``pdf``, ``tiff``) -> its pages."""


class Readers(NamedTuple):
    """Use `producer.archive_process.limited_readers`: processes with limits, which a hostile file may have.

    Attributes:
        list_members: lists archives.
        count_pdf: counts the pages of a PDF at a path; None for pypdf, in this process.
        count_object: counts the pages of a PDF or TIFF in a bucket.
        time: what the scan's files may take together, also those that it opens itself.
    """

    list_members: ListMembers
    count_pdf: CountPdf | None
    count_object: CountObject
    time: ScanTime
