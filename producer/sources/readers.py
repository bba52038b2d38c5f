"""What opens strangers' files for a scan: there is no default, so that nobody forgets the limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from producer.sources.archive import ListMembers
from producer.sources.page_count import CountPdf, PageCount
from producer.sources.scan_time import ScanTime

OnWait = Callable[[], None]
"""Called while a server's answer is waited for; what it raises ends that."""


class Listed(msgspec.Struct, frozen=True, omit_defaults=True):
    """Some of what lies below a prefix of a bucket.

    Attributes:
        keys: ``bucket/key`` of each object, in the order of the keys.
        is_object: there is an object of that very name; nothing is listed then.
        next_list: where the list goes on, as its server says; empty at its end.
        outside: objects that were listed, and do not lie below the prefix.
        long: objects whose keys are longer than any may be.
        ended: why this is not all.
        error: why nothing could be listed.
    """

    keys: list[str] = []
    is_object: bool = False
    next_list: str = ""
    outside: int = 0
    long: int = 0
    ended: str = ""
    error: str = ""


ListBucket = Callable[[str, OnWait], Iterator[Listed]]
"""``bucket/prefix`` -> what lies below it, part by part."""

CountObject = Callable[[str, str, OnWait], PageCount]
"""The key of a bucket's object (``bucket/key``) and its kind (``pdf``, ``tiff``) -> its pages."""


class Readers(NamedTuple):
    """Use `producer.archive_process.limited_readers`: processes with limits, which a hostile file may have.

    Attributes:
        list_members: lists archives.
        count_pdf: counts the pages of a PDF at a path; None for pypdf, in this process.
        list_bucket: lists buckets.
        count_object: counts the pages of a PDF or TIFF in a bucket.
        time: what the scan's files may take together, also those that it opens itself.
    """

    list_members: ListMembers
    count_pdf: CountPdf | None
    list_bucket: ListBucket
    count_object: CountObject
    time: ScanTime
