"""A document as it is, with its text under it: a PDF that can be searched and copied from.

A PDF's pages stay as they are. Images are put into a PDF by img2pdf, which copies JPEG, PNG, JPEG 2000 and CCITT data
byte by byte; what PDF knows no such data for (WebP, BMP) is stored without loss. Needs the extra: ocrfleet[pdf].

pikepdf, img2pdf and Pillow read strangers' files, so a process with limits does it: ``python -m
producer.output.searchable_pdf`` reads JSON lines on stdin: ``{"source", "records", "target"}``, which are
percent-encoded file names (``records``: the document's, one a line), and answers each with what went wrong, or nothing.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, unquote_to_bytes

import msgspec

from detector.errors import ImageError, first_line, is_out_of_memory, show
from detector.images.regular_file import Identity, SeenPath, open_regular, seen_as
from detector.images.sniff import sniff
from detector.memory import limit_memory
from producer.answer_line import answer_line
from producer.detector_process.line_process import LineProcess
from producer.errors import ProducerError
from producer.job.results_file import iter_records
from producer.output.pdf.page_tree import UnlikeTreeError, listed_places
from producer.output.pdf.saving import (
    PDF_GROWS,
    PDF_MORE_BYTES,
    PICTURE_GROWS,
    PICTURE_MORE_BYTES,
    GrowsError,
    save,
)
from producer.output.pdf.text_layer import add_text, make_font
from worker.messages import ImageRecord, encode

if TYPE_CHECKING:
    import pikepdf


class NoPdfLibraryError(ProducerError):
    """pikepdf or img2pdf is not installed."""


class PageNotInPdfError(ProducerError):
    """A source cannot be made into a PDF."""


def check_library() -> None:
    """Raises NoPdfLibraryError if this machine cannot write PDFs."""
    try:
        import img2pdf  # noqa: F401
        import pikepdf  # noqa: F401
    except ModuleNotFoundError as error:
        raise NoPdfLibraryError(
            f"--format pdf needs {error.name}, which is not installed: pip install 'ocrfleet[pdf]'"
        ) from None


def write_pdf(source: Path, records: Iterable[ImageRecord], target: Path) -> None:
    """Writes one document.

    Args:
        source: the PDF or image that was read.
        records: of its pages, in any order.
        target: the file to write.

    Raises:
        PageNotInPdfError: the source is damaged, locked, no image that PDF can hold, has other pages than were read, or
            would become far larger than it is.
        ImageError: the image cannot be read.
    """
    import pikepdf

    name = show(source)
    try:
        with open_regular(source) as file:
            came = os.fstat(file.fileno()).st_size
            if sniff(file, name) == "pdf":
                with pikepdf.open(file, inherit_page_attributes=False) as pdf:  # which mends the page tree
                    text = _add_texts(pdf, listed_places(pdf), records, name)
                    save(pdf, target, PDF_GROWS * came + PDF_MORE_BYTES + text)
                return
            from producer.output.pdf.pictures import add_pictures  # with Pillow, which the page's process has not

            with pikepdf.new() as pdf:
                sizes = add_pictures(pdf, file, name)
                text = _add_texts(pdf, range(len(sizes)), _of_size(records, sizes, name), name)
                most = PICTURE_GROWS * came + PICTURE_MORE_BYTES + text
                save(pdf, target, most, min_version="1.5")  # JPEG 2000 and 16 bits a sample
    except pikepdf.PasswordError as error:
        raise PageNotInPdfError(f"{name}: is locked with a password; unlock it and export again") from error
    except (pikepdf.PdfError, UnlikeTreeError, GrowsError) as error:
        raise PageNotInPdfError(f"{name}: cannot be written as PDF ({error})") from error


def _add_texts(pdf: pikepdf.Pdf, places: Sequence[int | None], records: Iterable[ImageRecord], name: str) -> int:
    """Puts each page's text on the page that was read: `places` tells which of the PDF's it is. Its bytes, packed."""
    font: pikepdf.Object | None = None
    size = 0
    for record in records:
        place = places[record.page] if record.page < len(places) else None
        if place is None:
            raise PageNotInPdfError(f"{name}: page {record.page + 1} that was read is none of the PDF's {len(places)}")
        if record.width and record.height:
            font = font or make_font(pdf)
            size += add_text(pdf, pdf.pages[place], record, font)
    return size


def _of_size(records: Iterable[ImageRecord], sizes: list[tuple[int, int]], name: str) -> Iterator[ImageRecord]:
    """The records, whose pages are as large as those that were read."""
    for record in records:
        if record.page < len(sizes) and sizes[record.page] != (record.width, record.height):
            now, read = ("{}x{}".format(*size) for size in (sizes[record.page], (record.width, record.height)))
            raise PageNotInPdfError(f"{name}: page {record.page + 1} is {now} pixels, the one that was read had {read}")
        yield record


MEMORY_BYTES = 800 << 20
"""A page is put into a PDF whole; what has transparency is held three times, so 50 megapixels of that fit."""

DOCUMENT_TIMEOUT_S = 120.0


class _Wanted(msgspec.Struct, frozen=True):
    source: str
    records: str
    target: str
    seen: Identity | None = None


class _Answer(msgspec.Struct, frozen=True):
    error: str = ""


class PdfWriter:
    """The process, started at the first document and again after it was lost over one. A context manager."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._child = LineProcess("producer.output.searchable_pdf", DOCUMENT_TIMEOUT_S)
        self._spool = tempfile.TemporaryDirectory(prefix="ocrfleet-pdf-", ignore_cleanup_errors=True)
        self.spool = Path(self._spool.name)

    def __enter__(self) -> PdfWriter:
        """Nothing runs before the first document."""
        return self

    def __exit__(self, *details: object) -> None:
        """End the process and remove temporary files."""
        self._child.stop(kill=details[0] is not None)
        self._spool.cleanup()

    def write(self, source: Path, records: Iterable[ImageRecord], target: Path) -> str:
        """Writes one document, see `write_pdf`. Returns what went wrong, or nothing."""
        pages = self.spool / "records.jsonl"
        with pages.open("wb") as stream:
            stream.writelines(encode(record) + b"\n" for record in records)
        source_name, pages_name, target_name = (quote(os.fsencode(path)) for path in (source, pages, target))
        wanted = _Wanted(source_name, pages_name, target_name, seen_as(source))
        line = self._child.ask(msgspec.json.encode(wanted))
        if not line:
            return f"the PDF process was lost over it, or took longer than {DOCUMENT_TIMEOUT_S:.0f} s"
        return msgspec.json.decode(line, type=_Answer).error


def serve(lines: BinaryIO, answers: BinaryIO) -> None:
    """Answers one line after the other until the input ends."""
    for line in lines:
        limit_memory(MEMORY_BYTES)
        wanted = msgspec.json.decode(line, type=_Wanted)
        source, records, target = (
            Path(os.fsdecode(unquote_to_bytes(name))) for name in (wanted.source, wanted.records, wanted.target)
        )
        error = ""
        try:
            write_pdf(SeenPath.to(source, wanted.seen), iter_records(records), target)
        except (PageNotInPdfError, ImageError, OSError) as reason:
            error = str(reason)
        except Exception as reason:  # Pillow, of a picture that unpacks to too much; whatever else a library raises
            said = (
                "needs too much memory"
                if is_out_of_memory(reason)
                else f"{type(reason).__name__}: {first_line(reason)}"
            )
            error = f"cannot be put into a PDF ({said})"
        answers.write(answer_line(_Answer(error)))
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
