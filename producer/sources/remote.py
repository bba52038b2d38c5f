"""Pages behind ``s3://`` and ``https://`` addresses, listed without downloading them; and results sent to a bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
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
) -> Iterator[FoundPage]:
    """:func:`producer.sources.scan.scan` for paths, then what lies behind addresses, in the order given.

    Raises:
        SourceMissingError: a path or an address that is not there.
    """
    passed = passed or PassedOver()
    look = partial(scan, exclude=exclude, sniff=sniff, zip_encoding=zip_encoding, follow_links=follow_links)
    yield from that_fit(_everything(list(sources), readers, look, warn, passed), passed, warn)


def _everything(
    named: list[str], readers: Readers, look: Callable[..., Iterator[FoundPage]], warn: Warn, passed: PassedOver
) -> Iterator[FoundPage]:
    local = [source for source in named if not is_remote(source)]
    if local:
        yield from look(local, readers, warn=warn, passed=passed)
    for source in named:
        if source.startswith("s3://"):
            yield from _bucket(source, readers.count_object, warn, passed)
        elif is_remote(source):
            yield FoundPage(PurePosixPath(unquote(urlsplit(source).path)).name or source, source, 0)


def check_sources(sources: Iterable[str]) -> None:
    """Raises SourceMissingError for a path that is not there: no server need be asked to know that."""
    for source in sources:
        if not is_remote(source) and source != STDIN:
            resolve(source)


def _bucket(source: str, count: CountObject, warn: Warn, passed: PassedOver) -> Iterator[FoundPage]:
    """Every image below a prefix. One listing of a folder is held at a time: about 1 KB an object of that folder."""
    from worker.storage.remote import s3, s3_errors

    files = s3()
    # As typed, not percent-decoded: people copy keys from `aws s3 ls`.
    root = source.removeprefix("s3://").rstrip("/")
    try:
        if files.isfile(root):
            yield from _object(root, PurePosixPath(root).name, count, warn)
            return
        found = False
        for folder, _, names in files.walk(root):
            found = found or bool(names)
            for name in sorted(names):
                path = f"{folder}/{name}"
                if is_taken(PurePosixPath(name)):
                    yield from _object(path, path.removeprefix(f"{root}/"), count, warn)
                elif archive_kind(name):
                    said = "archives in buckets are not opened; unpack it first"
                    warn(f"s3://{folder}/{name}: skipped, {said}")
                    shown = path.removeprefix(f"{root}/")
                    yield FoundPage(shown, f"s3://{quote(path)}", 0, Problem("UnsupportedFormat", f"{shown}: {said}"))
                else:
                    passed.file(PurePosixPath(name))
            files.invalidate_cache(folder)
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
