"""How many pages a PDF or TIFF has, without decoding any of them.

TIFF directories are read here. PDFs are counted by pdfium, which the workers open them with, in a process of its own;
where that is not installed (a bare producer) by pypdf. What either gets wrong, the workers put right: the record of
page 0 says how many pages there are (growth.py).
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from detector.errors import first_line
from detector.images.pdf_tree import more_than_listed, more_than_taken
from detector.images.regular_file import NotRegularError, Patience, open_regular
from detector.images.sniff import PAGED_KINDS, SNIFFED_BYTES, kind_of
from detector.images.suffixes import PAGED_SUFFIXES
from detector.images.tiff import BrokenTiffError, read_chain
from producer.bounds import BELIEVED_PAGES, MOST_PAGES_OF_A_FILE
from producer.errors import UNCOUNTED, CannotCountError, MissingPagesError
from producer.sources.scan_time import USED_UP, ScanTime
from producer.sources.walk import stop_for_want
from worker.messages import MAX_BLOB_BYTES
from worker.storage.spool import MachineFault

if TYPE_CHECKING:
    from pypdf import PdfReader

# pypdf reports every oddity of a sloppy PDF; what cannot be counted ends as a failed record that says so.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)

CountPdf = Callable[[Path], int]

MAY_BE_MORE = (
    "the PDF is damaged and pypdf may not see all of it; `qpdf in.pdf out.pdf` may repair it, and ocrfleet[pdf] counts "
    "as the workers do"
)


class PageCount(NamedTuple):
    """What is known of a file's pages.

    Attributes:
        pages: how many there are at least; 1 or more.
        broken: why there may be more; empty if that is all.
    """

    pages: int
    broken: str = ""


def count_pages(stream: BinaryIO, kind: str, path: Path | None = None, count_pdf: CountPdf | None = None) -> PageCount:
    """Counts the pages of an open, seekable PDF or TIFF.

    Args:
        stream: the file.
        kind: what it is, ``pdf`` or ``tiff``.
        path: where it is, for ``count_pdf``.
        count_pdf: what counts the pages of the PDF at a path, if there is such a thing here.

    Raises:
        CannotCountError: with one line that says why.
        MachineFault: what counts cannot be started.
    """
    try:
        if kind == "tiff":
            chain = read_chain(stream)
            return _believable(PageCount(len(chain.places), chain.broken))
        pages = count_pdf(path) if count_pdf and path else _count_pdf(stream)
    except MissingPagesError as error:
        return _believable(PageCount(error.pages, str(error)))
    except (CannotCountError, MemoryError, MachineFault):
        raise
    except BrokenTiffError as error:
        raise CannotCountError(str(error)) from error
    # Parsers of hostile files raise whatever they like: struct.error, KeyError, RecursionError, pypdf's own classes.
    except Exception as error:
        raise CannotCountError(f"{type(error).__name__}: {first_line(error, 200)}") from error
    if pages < 1:
        raise CannotCountError("it has no pages")
    return _believable(PageCount(pages))


def _believable(count: PageCount) -> PageCount:
    if count.pages <= MOST_PAGES_OF_A_FILE:
        return count
    return PageCount(MOST_PAGES_OF_A_FILE, more_than_taken(count.pages))


class Settled(NamedTuple):
    """What a scan makes of a file.

    Attributes:
        pages: how many are taken.
        problem: error type and message of the record of those that are not; None if that is all.
        uncounted: nobody knows whether that is all: its worker says.
    """

    pages: int
    problem: tuple[str, str] | None = None
    uncounted: bool = False


def settle(shown: str, count: Callable[[], PageCount], warn: Callable[[str], None]) -> Settled:
    """Counts a file's pages; of one that cannot be counted the first is taken, and its worker says what is wrong.

    Args:
        shown: the file's name, for people.
        count: counts.
        warn: told in one line what was not counted.
    """
    try:
        counted = count()
    except CannotCountError as error:
        warn(f"{shown}: its pages cannot be counted ({error})")
        return Settled(1, uncounted=True)
    if not counted.broken:
        return Settled(counted.pages)
    said = f"pages {counted.pages + 1}-? {UNCOUNTED} ({counted.broken})"
    warn(f"{shown}: {said}")
    if counted.pages >= MOST_PAGES_OF_A_FILE:
        return Settled(counted.pages, ("TooLarge", f"{shown}: {said}"))
    return Settled(counted.pages, ("CorruptImage", f"{shown}: {said}; repair the file and `retry`"))


def count_file(path: Path, count_pdf: CountPdf | None, scan_time: ScanTime | None = None) -> PageCount:
    """Counts the pages of a file of any kind; one that is no PDF or TIFF, or no file, has one.

    Args:
        path: of the file; at a `SeenPath` that one.
        count_pdf: as for `count_pages`; it keeps to the scan's time by itself. None: pypdf, here, without limits, for
            files of one's own.
        scan_time: what is left for a TIFF, and for opening the file; None: any.

    Raises:
        CannotCountError: with one line that says why.
        ScanStoppedError: this machine has no file, memory or process to count it with: pages would be missing.
    """
    try:
        with open_regular(path, scan_time.leases if scan_time else None) as stream:
            kind = kind_of(stream.read(SNIFFED_BYTES), path.name) or ""
            if kind == "tiff" and scan_time is not None:
                scan_time.grant(path)
                if not scan_time.left_s():
                    raise CannotCountError(f"{USED_UP}; its worker counts them")
                with scan_time.spending():
                    return count_pages(stream, kind)
            if kind in PAGED_KINDS:
                return count_pages(stream, kind, path, count_pdf)
        if not kind and path.suffix.lower() in PAGED_SUFFIXES:
            raise CannotCountError("it is neither a PDF nor a TIFF")
        return PageCount(1)
    except NotRegularError as error:
        if path.suffix.lower() in PAGED_SUFFIXES:
            raise CannotCountError("it is neither a PDF nor a TIFF") from error
        return PageCount(1)
    except OSError as error:
        stop_for_want(path, error)
        raise CannotCountError(error.strerror or str(error)) from error
    except ValueError as error:
        raise CannotCountError(str(error)) from error  # a NUL in its name: some list had it


def kind_of_file(path: Path, patience: Patience | None = None) -> str:
    """What a file is by its first bytes, empty if nothing known; pipes, sockets and devices are never opened.

    Args:
        path: of the file.
        patience: what is left to wait for who holds it.

    Raises:
        BlockingIOError: another program holds it.
        OSError: it cannot be read.
    """
    try:
        with open_regular(path, patience) as stream:
            return kind_of(stream.read(SNIFFED_BYTES), path.name) or ""
    except NotRegularError:
        return ""


def _count_pdf(stream: BinaryIO) -> int:
    reader = _open_pdf(stream, strict=False)
    pages = len(reader.pages)
    root: Any = reader.trailer["/Root"]
    said = root["/Pages"].get("/Count", 0)
    if isinstance(said, int) and said > BELIEVED_PAGES and 1 <= pages < said:  # a worker's pdfium believes this number
        raise MissingPagesError(pages, more_than_listed(said, pages))
    if pages and stream.seek(0, os.SEEK_END) > MAX_BLOB_BYTES and not (said == pages and _is_sound(stream)):
        raise MissingPagesError(pages, MAY_BE_MORE)
    return pages


def _open_pdf(stream: BinaryIO, *, strict: bool) -> "PdfReader":
    from pypdf import PdfReader  # a quarter of what a command imports, and most have no PDF to count

    stream.seek(0, os.SEEK_SET)
    reader = PdfReader(cast("IO[bytes]", stream), strict=strict)  # a stream: given a path, pypdf reads all into memory
    if reader.is_encrypted and not reader.decrypt(""):
        raise CannotCountError("it is encrypted and needs a password")
    return reader


def _is_sound(stream: BinaryIO) -> bool:
    """Whether pypdf's count can be relied upon, for what no worker may see whole (`--transfer redis`).

    Of 1,200 PDFs with faults (tests/faulty.py) pypdf missed pages of 102. In each of them strict reading met an error
    or the page tree said another number, and in none of the sound ones.
    """
    try:
        return len(_open_pdf(stream, strict=True).pages) > 0
    except Exception:  # hostile and sloppy files raise any class
        return False


def paged_suffix_of(path: Path) -> str:
    """`.pdf` or `.tif` if the file starts like one, whatever its name; else an empty string."""
    try:
        return {"pdf": ".pdf", "tiff": ".tif"}.get(kind_of_file(path), "")
    except OSError:
        return ""
