"""Pages that the scan missed: a worker that opens page 0 of a file says how many there are, and the rest joins the job.

The manifest grows at its end; what was added names the index of its file's first page. A crash between a record and
the pages it brings loses nothing: whoever goes on reads the records on disk again, and adds what is not there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from producer.job.manifest import ManifestIndex, ManifestLine

if TYPE_CHECKING:
    from producer.job.results_file import Line
    from worker.ledger.ledger import Ledger

_ADDED = b',"of":'


class Growth:
    """Compares records with the manifest of their job, and lets it grow.

    Memory: that of a `ManifestIndex`, once the first file of several pages is done.

    Attributes:
        total: pages of the job.
    """

    def __init__(self, manifest: Path, ledger: Ledger, job: str, total: int) -> None:
        self._manifest = manifest
        self._ledger = ledger
        self._job = job
        self.total = total
        self._index: ManifestIndex | None = None
        self._listed: dict[int, int] = {}
        self._noted: list[tuple[int, int]] = []

    def note(self, line: Line) -> None:
        """Look at a record; if its file has more pages than the job, they wait for `write`."""
        if line.page == 0 and line.pages > 1 and not self._is_whole(line.index, line.pages):
            self._noted.append((line.index, line.pages))

    def write(self) -> list[ManifestLine]:
        """Add the pages noted: first to the manifest, then to the ledger. Returns their lines."""
        new: list[ManifestLine] = []
        for first, pages in self._noted:
            new += self._missing(first, pages, self.total + len(new))
        self._noted.clear()
        if new:
            encoder = msgspec.json.Encoder()
            with self._manifest.open("ab") as stream:
                stream.write(b"".join(encoder.encode(line) + b"\n" for line in new))
                stream.flush()
                os.fsync(stream.fileno())
            self.total += len(new)
            self._ledger.grow(self._job, self.total)
        return new

    def close(self) -> None:
        """Close the manifest."""
        if self._index is not None:
            self._index.__exit__()
            self._index = None

    def _opened(self) -> ManifestIndex:
        if self._index is None:
            decoder = msgspec.json.Decoder(ManifestLine)
            with self._manifest.open("rb") as stream:
                for raw in stream:
                    if _ADDED in raw:
                        line = decoder.decode(raw)
                        self._listed[line.of] = max(self._listed.get(line.of, 0), line.page + 1)
            self._index = ManifestIndex(self._manifest)
        return self._index

    def _is_whole(self, first: int, pages: int) -> bool:
        """Whether the last page is where it should be: one look, for the many files that were counted rightly."""
        index = self._opened()
        head, last = index.line(first), index.line(first + pages - 1)
        if head is None or self._listed.get(first, 0) >= pages:
            return True
        return last is not None and last.uri == head.uri and last.page == pages - 1 and last.problem is None

    def _missing(self, first: int, pages: int, begin: int) -> list[ManifestLine]:
        index = self._opened()
        head = index.line(first)
        if head is None:
            return []
        known = 1
        while (line := index.line(first + known)) is not None and _follows(line, head, known):
            known += 1
        known = max(known, self._listed.get(first, 0))
        if known < pages:
            self._listed[first] = pages
        return [
            ManifestLine(begin + number, head.image, head.uri, page, None, first)
            for number, page in enumerate(range(known, pages))
        ]


def _follows(line: ManifestLine, head: ManifestLine, page: int) -> bool:
    return line.uri == head.uri and line.page == page and line.problem is None and line.of < 0
