"""Before a retry: files of which some pages could not be counted are counted again; they may have been repaired."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from detector.atomic import atomic_write
from detector.images.regular_file import open_regular
from producer.errors import CannotCountError
from producer.job.manifest import ManifestIndex, ManifestLine
from producer.sources.page_count import CountPdf, count_file
from worker.storage.files import path_of


def recount(manifest: Path, indices: Iterable[int], count_pdf: CountPdf | None = None) -> int:
    """Lets the manifest grow by the pages of repaired files. Returns how many pages can be tried now.

    Args:
        manifest: of the job.
        indices: pages that failed.
        count_pdf: what counts the pages of a PDF.
    """
    mended: dict[int, int] = {}
    with ManifestIndex(manifest) as index:
        total = index.count
        for number in indices:
            line = index.line(number)
            if line is None or line.problem is None or line.page == 0 or not line.uri.startswith("file://"):
                continue
            try:
                counted = count_file(path_of(line.uri), count_pdf)
            except CannotCountError:
                continue
            if not counted.broken and counted.pages > line.page:
                mended[number] = counted.pages
    if mended:
        _rewrite(manifest, mended, total)
    return sum(pages for pages in mended.values())


def _rewrite(manifest: Path, mended: dict[int, int], total: int) -> None:
    decoder, encoder = msgspec.json.Decoder(ManifestLine), msgspec.json.Encoder()
    heads: list[tuple[ManifestLine, int, int]] = []  # of each file: a line, its first page's index, its pages
    with atomic_write(manifest, sync=True) as part, open_regular(manifest) as source, part.open("wb") as target:
        for number, raw in enumerate(source):
            if number not in mended:
                target.write(raw)
                continue
            line = decoder.decode(raw)
            target.write(encoder.encode(msgspec.structs.replace(line, problem=None)) + b"\n")
            first = line.of if line.of >= 0 else number - line.page
            heads.append((line, first, mended[number]))
        for line, first, pages in heads:
            for page in range(line.page + 1, pages):
                target.write(encoder.encode(ManifestLine(total, line.image, line.uri, page, None, first)) + b"\n")
                total += 1
