"""A job that grows: pages found later go behind those of its manifest, which keep their indices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import filterfalse
from pathlib import Path
from tempfile import TemporaryFile

import msgspec

from detector.atomic import atomic_write
from producer.archive_process.limited_readers import limited_readers
from producer.growing.alone import alone
from producer.growing.marks import Marks, mark_of
from producer.held_folder import ours_to_write
from producer.job.manifest import ManifestLine, count_manifest, read_manifest, write_lines
from producer.job.output_folder import JobRequest, OutputFolder
from producer.job.view import View
from producer.sources.found_page import FoundPage
from producer.sources.remote import scan_everything
from producer.whole_append import whole_append


class KnownPages:
    """Which pages a manifest lists. 8 bytes of memory each; two of 2**32 pages in a million jobs look alike."""

    def __init__(self, manifest: Path, first: int = 0) -> None:
        """Read the manifest from a page on; none is there: no page is known."""
        self._pages = Marks()
        for line in read_manifest(manifest, first) if manifest.exists() else ():
            self._pages.add(_mark(line.uri, line.page))

    def __contains__(self, page: FoundPage | ManifestLine) -> bool:
        """Whether the manifest lists it."""
        return _mark(page.uri, page.page) in self._pages


def _mark(uri: str, page: int) -> int:
    return mark_of(f"{page} {uri}".encode())


def new_pages(folder: OutputFolder, request: JobRequest, view: View) -> Iterator[FoundPage]:
    """Pages in the job's sources that its manifest does not list."""
    known = KnownPages(folder.manifest)
    # As `make_manifest` scans: another way of counting would find other pages.
    with limited_readers() as readers:
        for page in scan_everything(
            request.sources,
            readers,
            exclude=folder.root,
            warn=view.warn,
            sniff=request.sniff,
            zip_encoding=request.zip_encoding,
            follow_links=request.follow_links,
        ):
            if page not in known:
                yield page


def append_pages(manifest: Path, pages: Iterable[FoundPage], before: Callable[[], None] = lambda: None) -> int:
    """Put pages behind those that are there: all or none. Returns how many were added.

    What is there is counted, not read: of a million pages that takes 50 ms, and no one else's page waits for it. Others
    see the manifest grow only when all pages were found, which may take an hour (a list of archives). What came there
    meanwhile is not added twice.

    Args:
        manifest: of the job. Without pages none is made.
        pages: read once; none of them is held.
        before: called when all were found, and the list is about to grow.
    """
    manifest.parent.mkdir(parents=True, exist_ok=True)
    there = count_manifest(manifest) if manifest.exists() else 0
    with TemporaryFile(dir=manifest.parent) as found:
        lines = (
            ManifestLine(number, page.image, page.uri, page.page, page.problem, uncounted=page.uncounted)
            for number, page in enumerate(pages)
        )
        if not write_lines(found, lines):
            return 0
        before()
        found.seek(0)
        new = map(msgspec.json.Decoder(ManifestLine).decode, found)
        if not manifest.exists():
            with atomic_write(manifest, sync=True) as part, open(part, "wb", opener=ours_to_write) as stream:
                return write_lines(stream, _numbered(new, 0))
        with whole_append(manifest) as stream:
            added = KnownPages(manifest, there)
            return write_lines(stream, _numbered(filterfalse(added.__contains__, new), count_manifest(manifest)))


def _numbered(lines: Iterable[ManifestLine], first: int) -> Iterator[ManifestLine]:
    for index, line in enumerate(lines, first):
        yield msgspec.structs.replace(line, index=index)


def look_for_new(
    folder: OutputFolder, request: JobRequest, view: View, *, update: bool, before: Callable[[], None] = lambda: None
) -> int:
    """Look whether the job's sources have grown: add the new pages, or only say how many there are.

    Files that were changed or removed since are the old pages still.

    Args:
        folder: with the job's manifest; locked by the caller.
        request: the job. A list on stdin (``-``) cannot be looked at again.
        view: is told.
        update: add them.
        before: see `append_pages`.

    Returns:
        Pages of the job.

    Raises:
        FolderBusyError: a watch-folder adds them.
    """
    if "-" not in request.sources:
        found = new_pages(folder, request, view)
        if update:
            with alone(folder):
                append_pages(folder.manifest, found, before)
        elif count := sum(1 for _ in found):
            view.warn(f"{count} new images are there that this job does not have: --update adds them")
    return count_manifest(folder.manifest)
