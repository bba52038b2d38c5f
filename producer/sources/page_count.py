"""How many pages a PDF or TIFF has, without decoding any of them."""

import logging
from pathlib import Path
from typing import IO, BinaryIO, cast

from pypdf import PdfReader

from detector.errors import first_line
from detector.images.suffixes import PDF_SUFFIXES
from producer.errors import ProducerError
from producer.sources.tiff_pages import count_directories

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF, little- and big-endian

# pypdf reports every oddity of a sloppy PDF; what cannot be counted ends as a failed record that says so.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)


class CannotCountError(ProducerError):
    """The file's pages cannot be counted: damaged, encrypted, or not what its name says."""


def count_pages(stream: BinaryIO, suffix: str) -> int:
    """Counts the pages of an open, seekable PDF or TIFF.

    Args:
        stream: the file, at its start.
        suffix: the lower-case file name suffix, one of `PAGED_SUFFIXES`.

    Returns:
        At least 1.

    Raises:
        CannotCountError: with one line that says why.
    """
    try:
        pages = _count_pdf(stream) if suffix in PDF_SUFFIXES else count_directories(stream)
    except CannotCountError:
        raise
    # Parsers of hostile files raise whatever they like: struct.error, KeyError, RecursionError, pypdf's own classes.
    except Exception as error:
        raise CannotCountError(f"{type(error).__name__}: {first_line(error, 200)}") from error
    if pages < 1:
        raise CannotCountError("it has no pages")
    return pages


def _count_pdf(stream: BinaryIO) -> int:
    reader = PdfReader(cast("IO[bytes]", stream), strict=False)  # a stream: given a path, pypdf reads all into memory
    if reader.is_encrypted and not reader.decrypt(""):
        raise CannotCountError("it is encrypted and needs a password")
    return len(reader.pages)


def paged_suffix_of(path: Path) -> str:
    """`.pdf` or `.tif` if the file starts like one, whatever its name; else an empty string."""
    try:
        with path.open("rb") as stream:
            start = stream.read(5)
    except OSError:
        return ""
    if start == b"%PDF-":
        return ".pdf"
    return ".tif" if start[:4] in TIFF_STARTS else ""
