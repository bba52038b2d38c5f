"""results.jsonl in the order of the pages: workers finish in any order, and a book is read from its first page on."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, dropwhile, groupby
from pathlib import Path

from detector.record import UNREADABLE
from producer.job.manifest import AddedPages
from producer.job.results_file import placed_records, record_at
from producer.results_there import open_there
from worker.messages import ImageRecord

_NONE = (1 << 64) - 1
_AT_ONCE = 1 << 17  # places, a megabyte; 50 million at once were twice the memory


class PageOrder:
    """The records of a results file as it was at one moment, one for each page. Memory: 8 bytes a page.

    A context manager. A page may have several records: its old failure is there until the collector has dropped it, and
    a file may be edited by hand. The last one counts, wherever records are counted or handed on.

    Attributes:
        path: the file.
        damaged: how many of its lines are no record, or one of a page that no job has.
        first_damaged: the number of the first of these, from 1; 0 if there is none.
    """

    def __init__(self, results: Path) -> None:
        """Read the file once, to know where its records are. A page's last record counts; damaged lines do not.

        Raises:
            FileNotFoundError: there are no results.
        """
        self.path = results
        self.damaged = self.first_damaged = 0
        self._places = array("Q")
        self._stream = open_there(results)  # the same one to the end: another may take its name meanwhile
        for place, record in placed_records(self._stream, self._count_damaged):
            self._put(record.index, place)

    def __enter__(self) -> PageOrder:
        """The file stays open until the end of the block."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self._stream.close()

    def _count_damaged(self, line: int) -> None:
        self.damaged += 1
        self.first_damaged = self.first_damaged or line

    def _put(self, index: int, place: int) -> None:
        if index >= len(self._places):
            for begin in range(len(self._places), index + 1, _AT_ONCE):
                self._places.frombytes(b"\xff" * 8 * min(_AT_ONCE, index + 1 - begin))
        self._places[index] = place

    def record(self, index: int) -> ImageRecord | None:
        """A page's record, None if it has none, or none any more."""
        if index >= len(self._places) or self._places[index] == _NONE:
            return None
        try:
            return record_at(self._stream, self._places[index])
        except UNREADABLE:  # edited meanwhile
            return None

    def records(self, added: AddedPages | None = None) -> Iterator[ImageRecord]:
        """All records, page by page.

        Args:
            added: pages that come behind those of their file, wherever their index is.
        """
        added = added or AddedPages()
        waiting: list[ImageRecord] = []  # the first of a file's later pages
        later: Iterator[ImageRecord] = iter(())
        grown = bool(added)
        for index, place in enumerate(self._places):
            if place == _NONE and not grown:  # one page may be the fifty millionth
                continue
            record = None if grown and index in added else self.record(index)
            if record and waiting and (record.image != waiting[0].image or record.page > waiting[0].page):
                yield from chain(waiting, later)
                waiting = []
            if record:
                yield record
            found = self._all(added.to(index)) if grown else iter(())
            if first := next(found, None):
                if waiting:  # and of the file of this index there is no record
                    yield from chain(waiting, later)
                waiting, later = [first], found
        yield from chain(waiting, later)

    def _all(self, indices: Iterable[int]) -> Iterator[ImageRecord]:
        return (record for index in indices if (record := self.record(index)))

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
