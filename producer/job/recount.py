"""Before a retry: files of which some pages could not be counted are counted again; they may have been repaired."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import filterfalse
from pathlib import Path

import msgspec

from detector.atomic import atomic_write
from detector.errors import ImageError
from detector.images.regular_file import SeenPath, seen_as
from producer.archive_process.limited_readers import limited_readers
from producer.errors import CannotCountError
from producer.held_folder import ours_to_write
from producer.job.manifest import ManifestIndex, ManifestLine
from producer.results_there import open_there
from producer.sources.page_count import count_file
from producer.whole_append import rewriting
from worker.storage.files import Storage, path_of


@contextmanager
def still_own(uri: str, roots: tuple[Path, ...]) -> Iterator[SeenPath | None]:
    """The file at an address of the manifest; None where it is not there, or lies outside of the job's sources by now.

    Between a scan and a retry there may be days in which somebody laid a link in its place.

    Args:
        uri: ``file://``.
        roots: in which it must lie, also through a link; empty: anywhere.
    """
    with ExitStack() as opened:
        try:
            found = opened.enter_context(Storage(roots, Path(os.devnull)).open(uri))
        except ImageError:
            yield None
        else:
            yield SeenPath.to(path_of(uri), seen_as(found))  # by the name that it had


def recount(
    manifest: Path, indices: Iterable[int], roots: tuple[Path, ...], before: Callable[[], None] = lambda: None
) -> int:
    """Lets the manifest grow by the pages of repaired files. Returns how many pages can be tried now.

    Args:
        manifest: of the job.
        indices: pages that failed.
        roots: of the job's files, see `still_own`.
        before: called when all were counted, and the list is about to grow.
    """
    if mended := _mended(manifest, indices, roots):
        before()
        _rewrite(manifest, mended)
    return sum(mended.values())


def _mended(manifest: Path, indices: Iterable[int], roots: tuple[Path, ...]) -> dict[int, int]:
    """How many pages a file has by now, by the line that said that it could not be counted."""
    mended: dict[int, int] = {}
    with ManifestIndex(manifest) as index, limited_readers() as readers:
        for number in indices:
            line = index.line(number)
            if line is None or line.problem is None or line.page == 0 or not line.uri.startswith("file://"):
                continue
            with still_own(line.uri, roots) as path:
                try:
                    counted = count_file(path, readers.count_pdf, readers.time) if path else None
                except CannotCountError:
                    continue
            if counted is not None and not counted.broken and counted.pages > line.page:
                mended[number] = counted.pages
    return mended


def _rewrite(manifest: Path, mended: dict[int, int]) -> None:
    """Others may have added to the list while files were counted: what is there now is copied, and counted."""
    decoder, encoder = msgspec.json.Decoder(ManifestLine), msgspec.json.Encoder()
    heads: list[tuple[ManifestLine, int, int]] = []  # of each file: a line, its first page's index, its pages
    total = 0
    with (
        rewriting(manifest),
        ManifestIndex(manifest) as index,
        atomic_write(manifest, sync=True) as part,
        open_there(manifest) as source,
        open(part, "wb", opener=ours_to_write) as target,
    ):
        for number, raw in enumerate(source):
            total += 1
            if number not in mended:
                target.write(raw)
                continue
            line = decoder.decode(raw)
            first = line.of if line.of >= 0 else number - line.page
            heads.append((line, first, mended[number]))
            if line.page in _added(index, first):
                target.write(raw)
                continue
            target.write(encoder.encode(msgspec.structs.replace(line, problem=None)) + b"\n")
        for line, first, pages in heads:
            for page in filterfalse(_added(index, first).__contains__, range(line.page + 1, pages)):
                target.write(encoder.encode(ManifestLine(total, line.image, line.uri, page, None, first)) + b"\n")
                total += 1


def _added(index: ManifestIndex, first: int) -> set[int]:
    """Pages of a file that are further down: a record told of them (growth.py)."""
    lines = filter(None, map(index.line, index.added.to(first)))
    return {line.page for line in lines if line.problem is None}
