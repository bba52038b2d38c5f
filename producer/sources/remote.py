"""Pages behind ``s3://`` and ``https://`` addresses, listed without downloading them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from detector.images.suffixes import PDF_SUFFIXES, TIFF_SUFFIXES, is_taken
from producer.sources.archive import archive_kind
from producer.sources.found_page import FoundPage, Problem
from producer.sources.long_names import that_fit
from producer.sources.page_count import PageCount, Settled, settle
from producer.sources.passed_over import LONG_NAMED, NOT_ASKED_FOR, PassedOver
from producer.sources.readers import OnWait, Readers
from producer.sources.scan import STDIN, SourceMissingError, found_pages, resolve, scan
from producer.sources.walk import Warn


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
    on_request: OnWait = lambda: None,
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
        on_request: called before each request to a bucket and while its answer is waited for; what it raises ends
            the scan.

    Raises:
        SourceMissingError: a path or an address that is not there.
    """
    passed = passed or PassedOver()
    look = partial(scan, exclude=exclude, sniff=sniff, zip_encoding=zip_encoding, follow_links=follow_links)
    yield from that_fit(_everything(list(sources), readers, look, on_request, warn, passed), passed, warn)


def _everything(
    named: list[str],
    readers: Readers,
    look: Callable[..., Iterator[FoundPage]],
    on_request: OnWait,
    warn: Warn,
    passed: PassedOver,
) -> Iterator[FoundPage]:
    local = [source for source in named if not is_remote(source)]
    if local:
        yield from look(local, readers, warn=warn, passed=passed)
    for source in named:
        if source.startswith("s3://"):
            yield from _bucket(source, readers, on_request, warn, passed)
        elif is_remote(source):
            yield FoundPage(PurePosixPath(unquote(urlsplit(source).path)).name or source, source, 0, uncounted=True)


def check_sources(sources: Iterable[str]) -> None:
    """Raises SourceMissingError for a path that is not there: no server need be asked to know that."""
    for source in sources:
        if not is_remote(source) and source != STDIN:
            resolve(source)


def _bucket(source: str, readers: Readers, on_request: OnWait, warn: Warn, passed: PassedOver) -> Iterator[FoundPage]:
    """Every image below a prefix. A thousand names are held at a time: a folder of a million took 1 GB of the page."""
    root = source.removeprefix("s3://").rstrip("/")

    def count(path: str, kind: str) -> PageCount:
        return readers.count_object(path, kind, on_request)

    found = False
    for part in readers.list_bucket(root, on_request):
        if part.error:
            raise SourceMissingError(f"{source}: {part.error}")
        if part.is_object:
            yield from _object(root, PurePosixPath(root).name, count, warn)
            return
        for kind, number in ((NOT_ASKED_FOR, part.outside), (LONG_NAMED, part.long)):
            if number:
                passed.add(kind, number)
        for path in part.keys:
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
        if part.ended:
            yield FoundPage(source, source, 0, Problem("TooLarge", f"{source}: {part.ended}"))
            return
    if not found:
        raise SourceMissingError(f"{source}: nothing there; check bucket, prefix and AWS_* variables")


def _object(path: str, shown: str, count: Callable[[str, str], PageCount], warn: Warn) -> Iterator[FoundPage]:
    # By its name: the first bytes of every object would be a request each. Where a name lies, its worker counts.
    suffix = PurePosixPath(path).suffix.lower()
    kind = "pdf" if suffix in PDF_SUFFIXES else "tiff" if suffix in TIFF_SUFFIXES else ""
    settled = settle(shown, partial(count, path, kind), warn) if kind else Settled(1, uncounted=True)
    yield from found_pages(shown, f"s3://{quote(path)}", settled)
