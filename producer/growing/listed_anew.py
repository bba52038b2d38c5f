"""Before a retry: archives that were not listed to their end are listed again; disk or file may be well by now."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile

import msgspec

from detector.atomic import atomic_write
from producer.archive_process.limited_readers import limited_readers
from producer.growing.new_pages import KnownPages
from producer.held_folder import ours_to_write
from producer.job.manifest import ManifestIndex, ManifestLine, count_manifest, write_lines
from producer.job.recount import still_own
from producer.results_there import open_there
from producer.sources.archive import archive_kind
from producer.sources.found_page import FoundPage
from producer.sources.long_names import that_fit
from producer.sources.passed_over import PassedOver
from producer.sources.scan import scan_file
from producer.whole_append import rewriting, whole_append
from worker.storage.files import path_of


def list_anew(
    manifest: Path,
    indices: Iterable[int],
    roots: tuple[Path, ...],
    zip_encoding: str = "",
    before: Callable[[], None] = lambda: None,
) -> int:
    """Lets the manifest grow by the members that it lacks. Returns how many pages.

    An archive's failed record has a line, and each line a record: where all of the archive is there now, that line
    becomes the first new page. Else it stays, and fails as before.

    Args:
        manifest: of the job.
        indices: pages that failed.
        roots: of the job's files, see `producer.job.recount.still_own`.
        zip_encoding: of zip members' names that do not say theirs; empty to guess.
        before: called when an archive was listed, and the list is about to grow.
    """
    with ManifestIndex(manifest) as index:
        broken = [line for line in map(index.line, indices) if line is not None and _is_archive(line)]
    if not broken:
        return 0
    known, heads, count = KnownPages(manifest), dict[int, ManifestLine](), 0
    with limited_readers() as readers:
        for line in broken:
            with still_own(line.uri, roots) as path:
                if path is None:
                    continue
                pages = scan_file(path, os.fsencode(line.image), readers, zip_encoding=zip_encoding)
                head, more = _append(manifest, line, that_fit(pages, PassedOver(), _unheard), known, before)
            count += more
            if head is not None:
                heads[line.index] = head
    if heads:
        _replace(manifest, heads)
    return count


def _is_archive(line: ManifestLine) -> bool:
    whole = line.problem is not None and line.page == 0 and line.uri.startswith("file://")
    return whole and archive_kind(path_of(line.uri).name) is not None


def _unheard(line: str) -> None:
    """What is wrong with them was told at the scan, and is in their records."""


def _append(
    manifest: Path, line: ManifestLine, pages: Iterable[FoundPage], known: KnownPages, before: Callable[[], None]
) -> tuple[ManifestLine | None, int]:
    """Puts an archive's new pages behind the others: all, or all but one, for the line. Returns that one and how many.

    A kill before the line is replaced costs nothing: the first page is then the only new one of the next retry.
    """
    whole = True

    def new() -> Iterator[ManifestLine]:
        nonlocal whole
        for page in pages:
            if page.uri == line.uri:  # what is wrong with it
                whole = False
            elif page not in known:
                yield ManifestLine(0, page.image, page.uri, page.page, page.problem, uncounted=page.uncounted)

    with TemporaryFile(dir=manifest.parent) as stored:
        count = write_lines(stored, new())
        stored.seek(0)
        found = map(msgspec.json.Decoder(ManifestLine).decode, stored)
        head = next(found, None) if whole else None
        if count > (head is not None):
            before()
            with whole_append(manifest) as stream:
                write_lines(stream, _numbered(found, count_manifest(manifest), line, head))
    return head, count


def _numbered(
    found: Iterable[ManifestLine], first: int, line: ManifestLine, head: ManifestLine | None
) -> Iterator[ManifestLine]:
    for index, page in enumerate(found, first):
        of = line.index if head is not None and page.uri == head.uri else -1
        yield msgspec.structs.replace(page, index=index, of=of)


def _replace(manifest: Path, heads: dict[int, ManifestLine]) -> None:
    encoder = msgspec.json.Encoder()
    with (
        rewriting(manifest),
        atomic_write(manifest, sync=True) as part,
        open_there(manifest) as source,
        open(part, "wb", opener=ours_to_write) as target,
    ):
        for number, raw in enumerate(source):
            head = heads.get(number)
            target.write(raw if head is None else encoder.encode(msgspec.structs.replace(head, index=number)) + b"\n")
