"""Pages behind ``s3://`` and ``https://`` addresses, listed without downloading them; and results sent to a bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from detector.errors import first_line
from detector.images.suffixes import PDF_SUFFIXES, TIFF_SUFFIXES, is_taken
from producer.sources.archive import archive_kind
from producer.sources.found_page import FoundPage, Problem
from producer.sources.long_names import that_fit
from producer.sources.page_count import Settled, settle
from producer.sources.passed_over import PassedOver
from producer.sources.readers import CountObject, Readers
from producer.sources.scan import STDIN, SourceMissingError, found_pages, resolve, scan
from producer.sources.scan_time import USED_UP, ScanTime
from producer.sources.walk import Warn

MOST_REQUESTS = 50_000
"""For one address, a thousand objects each: as many as a job may have pages. A server can say for ever that there are
more."""


def is_remote(source: str) -> bool:
    """Whether a source is an address rather than a path."""
    return source.startswith(("s3://", "https://"))


def scan_everything(
    sources: Iterable[str],
    readers: Readers,
    *,
    exclude: Path | None,
    warn: Warn = lambda line: None,
    passed: PassedOver | None = None,
    sniff: bool = False,
    zip_encoding: str = "",
    follow_links: bool = False,
    scan_time: ScanTime | None = None,
    on_request: Callable[[], None] = lambda: None,
) -> Iterator[FoundPage]:
    """:func:`producer.sources.scan.scan` for paths, then what lies behind addresses, in the order given.

    Args:
        sources: what the user named.
        readers: what opens archives and PDFs.
        exclude: see there, as the others.
        warn: told in one line about what was skipped or could not be counted.
        passed: counts what is passed over.
        sniff: see there.
        zip_encoding: see there.
        follow_links: see there.
        scan_time: what listing buckets may take; None: any time.
        on_request: called before each request to a bucket; what it raises ends the scan.

    Raises:
        SourceMissingError: a path or an address that is not there.
    """
    passed = passed or PassedOver()
    look = partial(scan, exclude=exclude, sniff=sniff, zip_encoding=zip_encoding, follow_links=follow_links)
    listing = _Listing(scan_time, on_request)
    yield from that_fit(_everything(list(sources), readers, look, listing, warn, passed), passed, warn)


def _everything(
    named: list[str],
    readers: Readers,
    look: Callable[..., Iterator[FoundPage]],
    listing: _Listing,
    warn: Warn,
    passed: PassedOver,
) -> Iterator[FoundPage]:
    local = [source for source in named if not is_remote(source)]
    if local:
        yield from look(local, readers, warn=warn, passed=passed)
    for source in named:
        if source.startswith("s3://"):
            yield from _bucket(source, readers.count_object, listing, warn, passed)
        elif is_remote(source):
            yield FoundPage(PurePosixPath(unquote(urlsplit(source).path)).name or source, source, 0)


def check_sources(sources: Iterable[str]) -> None:
    """Raises SourceMissingError for a path that is not there: no server need be asked to know that."""
    for source in sources:
        if not is_remote(source) and source != STDIN:
            resolve(source)


class _Listing:
    """Asks buckets for their objects, a thousand at a time, for as long as the scan has time."""

    def __init__(self, scan_time: ScanTime | None, on_request: Callable[[], None]) -> None:
        self._time = scan_time or ScanTime()
        self._is_limited = scan_time is not None
        self._on_request = on_request
        self.ended = ""

    def keys(self, files: Any, root: str) -> Iterator[str]:
        """``bucket/key`` of each object below a prefix, in the order of the keys; `ended` says why not of all."""
        bucket, prefix, _ = files.split_path(root)
        asked = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else ""}
        self.ended = ""
        for _ in range(MOST_REQUESTS):
            self._on_request()
            if self._is_limited and not self._time.left_s():
                self.ended = USED_UP
                return
            with self._time.spending():
                found = files.call_s3("list_objects_v2", **asked)
            yield from (f"{bucket}/{entry['Key']}" for entry in found.get("Contents", ()))
            if not found.get("IsTruncated"):
                return
            asked["ContinuationToken"] = found["NextContinuationToken"]
        self.ended = f"it has more than {MOST_REQUESTS * 1000:,} objects"


def _bucket(source: str, count: CountObject, listing: _Listing, warn: Warn, passed: PassedOver) -> Iterator[FoundPage]:
    """Every image below a prefix. A thousand names are held at a time: a folder of a million took 1 GB of the page."""
    from worker.storage.remote import s3, s3_errors

    files = s3()
    # As typed, not percent-decoded: people copy keys from `aws s3 ls`.
    root = source.removeprefix("s3://").rstrip("/")
    try:
        if files.isfile(root):
            yield from _object(root, PurePosixPath(root).name, count, warn)
            return
        found = False
        for path in listing.keys(files, root):
            if path.endswith("/"):  # what a console shows as a folder
                continue
            found, shown = True, path.removeprefix(f"{root}/")
            if is_taken(PurePosixPath(path)):
                yield from _object(path, shown, count, warn)
            elif archive_kind(path.rpartition("/")[2]):
                said = "archives in buckets are not opened; unpack it first"
                warn(f"s3://{path}: skipped, {said}")
                yield FoundPage(shown, f"s3://{quote(path)}", 0, Problem("UnsupportedFormat", f"{shown}: {said}"))
            else:
                passed.file(PurePosixPath(path.rpartition("/")[2]))
        if listing.ended:
            yield FoundPage(source, source, 0, Problem("TooLarge", f"{source}: {listing.ended}"))
            return
    except s3_errors() as error:
        raise SourceMissingError(f"{source}: {first_line(error)} (check the address and the AWS_* variables)") from None
    if not found:
        raise SourceMissingError(f"{source}: nothing there; check bucket, prefix and AWS_* variables")


def _object(path: str, shown: str, count: CountObject, warn: Warn) -> Iterator[FoundPage]:
    # By its name: the first bytes of every object would be a request each. Where a name lies, its worker counts.
    suffix = PurePosixPath(path).suffix.lower()
    kind = "pdf" if suffix in PDF_SUFFIXES else "tiff" if suffix in TIFF_SUFFIXES else ""
    settled = settle(shown, partial(count, path, kind), warn) if kind else Settled(1)
    yield from found_pages(shown, f"s3://{quote(path)}", settled)
