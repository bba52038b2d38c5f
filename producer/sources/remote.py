"""Pages behind ``s3://`` and ``https://`` addresses, listed without downloading them; and results sent to a bucket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from detector.errors import first_line
from detector.images.suffixes import IMAGE_SUFFIXES, PAGED_SUFFIXES
from producer.sources.archive import archive_kind
from producer.sources.page_count import CannotCountError, count_pages
from producer.sources.scan import FoundPage, SourceMissingError, scan
from producer.sources.walk import Warn


def is_remote(source: str) -> bool:
    """Whether a source is an address rather than a path."""
    return source.startswith(("s3://", "https://"))


def scan_everything(
    sources: Iterable[str], *, exclude: Path | None, warn: Warn = lambda line: None
) -> Iterator[FoundPage]:
    """:func:`producer.sources.scan.scan` for paths, then what lies behind addresses, in the order given.

    Raises:
        SourceMissingError: a path or an address that is not there.
    """
    named = list(sources)
    local = [source for source in named if not is_remote(source)]
    if local:
        yield from scan(local, exclude=exclude, warn=warn)
    for source in named:
        if source.startswith("s3://"):
            yield from _bucket(source, warn)
        elif is_remote(source):
            yield FoundPage(PurePosixPath(unquote(urlsplit(source).path)).name or source, source, 0)


def check_sources(sources: Iterable[str]) -> None:
    """Raises SourceMissingError for a path that is not there: no server need be asked to know that."""
    scan([source for source in sources if not is_remote(source)])


def _bucket(source: str, warn: Warn) -> Iterator[FoundPage]:
    """Every image below a prefix. One listing of a folder is held at a time: about 1 KB an object of that folder."""
    from worker.storage.remote import s3, s3_errors

    files = s3()
    # As typed, not percent-decoded: people copy keys from `aws s3 ls`.
    root = source.removeprefix("s3://").rstrip("/")
    try:
        if files.isfile(root):
            yield from _object(files, root, PurePosixPath(root).name, warn)
            return
        found = False
        for folder, _, names in files.walk(root):
            found = found or bool(names)
            for name in sorted(names):
                if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES:
                    path = f"{folder}/{name}"
                    yield from _object(files, path, path.removeprefix(f"{root}/"), warn)
                elif archive_kind(name):
                    warn(f"s3://{folder}/{name}: skipped, archives in buckets are not opened; unpack it first")
            files.invalidate_cache(folder)
    except s3_errors() as error:
        raise SourceMissingError(f"{source}: {first_line(error)} (check the address and the AWS_* variables)") from None
    if not found:
        raise SourceMissingError(f"{source}: nothing there; check bucket, prefix and AWS_* variables")


def _object(files: object, path: str, shown: str, warn: Warn) -> Iterator[FoundPage]:
    suffix = PurePosixPath(path).suffix.lower()
    total = 1
    if suffix in PAGED_SUFFIXES:
        try:
            with files.open(path, "rb") as stream:  # type: ignore[attr-defined]
                total = count_pages(stream, suffix)
        except CannotCountError as error:
            warn(f"{shown}: its pages cannot be counted, only the first is taken ({error})")
    for page in range(total):
        yield FoundPage(shown, f"s3://{quote(path)}", page)
