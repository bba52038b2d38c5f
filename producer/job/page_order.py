"""results.jsonl in the order of the pages: workers finish in any order, and a book is read from its first page on."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, dropwhile, groupby
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec

from detector.images.regular_file import open_regular
from detector.record import UNREADABLE
from producer.bounds import MOST_PAGES_OF_A_JOB
from producer.job.manifest import AddedPages
from producer.job.results_file import MOST_LINE_BYTES, raw_lines
from worker.messages import ImageRecord

_NONE = (1 << 64) - 1
_AT_ONCE = 1 << 17  # places, a megabyte; 50 million at once were twice the memory


class _Index(msgspec.Struct, frozen=True):
    index: Annotated[int, msgspec.Meta(ge=0, lt=MOST_PAGES_OF_A_JOB)]


_decode = msgspec.json.Decoder(ImageRecord).decode


class PageOrder:
    """Reads single records of a results file. Memory: 8 bytes a page."""

    def __init__(self, results: Path) -> None:
        """Read the file once, to know where its records are. A page's last record counts; damaged lines do not.

        Raises:
            FileNotFoundError: there are no results.
        """
        self._results = results
        self._places = array("Q")
        place = 0
        decode = msgspec.json.Decoder(_Index).decode
        with open_regular(results) as stream:
            for line in raw_lines(stream):
                if line.endswith(b"\n"):
                    with suppress(*UNREADABLE):
                        self._put(decode(line).index, place)
                place += len(line)

    def _put(self, index: int, place: int) -> None:
        if index >= len(self._places):
            for begin in range(len(self._places), index + 1, _AT_ONCE):
                self._places.frombytes(b"\xff" * 8 * min(_AT_ONCE, index + 1 - begin))
        self._places[index] = place

    def records(self, added: AddedPages | None = None) -> Iterator[ImageRecord]:
        """All records, page by page.

        Args:
            added: pages that come behind those of their file, wherever their index is.
        """
        added = added or AddedPages()
        with open_regular(self._results) as stream:
            waiting: list[ImageRecord] = []  # the first of a file's later pages
            later: Iterator[ImageRecord] = iter(())
            grown = bool(added)
            for index, place in enumerate(self._places):
                if place == _NONE and not grown:  # one page may be the fifty millionth
                    continue
                record = None if grown and index in added else self._read(stream, index)
                if record and waiting and (record.image != waiting[0].image or record.page > waiting[0].page):
                    yield from chain(waiting, later)
                    waiting = []
                if record:
                    yield record
                found = self._all(stream, added.to(index)) if grown else iter(())
                if first := next(found, None):
                    if waiting:  # and of the file of this index there is no record
                        yield from chain(waiting, later)
                    waiting, later = [first], found
            yield from chain(waiting, later)

    def _all(self, stream: BinaryIO, indices: Iterable[int]) -> Iterator[ImageRecord]:
        return (record for index in indices if (record := self._read(stream, index)))

    def _read(self, stream: BinaryIO, index: int) -> ImageRecord | None:
        if index >= len(self._places) or self._places[index] == _NONE:
            return None
        stream.seek(self._places[index])
        try:
            return _decode(stream.readline(MOST_LINE_BYTES))
        except UNREADABLE:
            return None

    def documents(
        self, uri: Callable[[ImageRecord], str], added: AddedPages | None = None
    ) -> Iterator[Iterator[ImageRecord]]:
        """The pages of one file after the other. A file's pages must be taken before the next file is asked for.

        A file without a fine page is passed over, and so are the failed pages before a file's first fine one: how many
        these were its number tells. Those behind it come as they are.

        Pages of a file follow each other in the manifest, and so do their indices. Files of one name may, too: members
        of a tar that has it twice.

        Args:
            uri: where a page's file is; empty where nobody knows.
            added: pages that belong to a file whose others have earlier indices.
        """
        before, number = ("", "", 0), 0

        def document(record: ImageRecord) -> int:
            nonlocal before, number
            image, source, page = before
            before = record.image, uri(record), record.page
            elsewhere = source and before[1] and source != before[1]
            number += bool(record.image != image or elsewhere or record.page <= page)
            return number

        for _, group in groupby(self.records(added), key=document):
            pages = dropwhile(lambda record: record.status != "ok", group)
            if first := next(pages, None):
                yield chain([first], pages)
