"""How many pages the page tree of a PDF lists: pdfium believes the number that stands there, and drops the rest."""

from __future__ import annotations

import logging
import os
from typing import IO, Any, BinaryIO, NamedTuple, cast

MOST_BYTES = 64 << 20
"""Larger files are not looked at: the cost must stay below that of counting."""

BYTES_A_PAGE = 8
"""Less no page takes, packed together with others: a tree that cannot be read lists no more pages than this allows. 220
bytes with ``/Count 1000000`` and ``/Kids 5`` were a million pages."""

MENDED_BYTES = 1 << 20
"""Up to this size a damaged table of objects is made anew."""

MOST_PAGES_OF_A_FILE = 100_000
"""Ten times the thickest books there are as one PDF, and more than the 65,535 pages that TIFF readers go to. A file
of 300 bytes can say that it has a million; 100,000 are 20 MB of manifest."""

BELIEVED_PAGES = 1_000
"""Up to so many a damaged PDF may say: pdfium opens pages whose place in the tree pypdf cannot read, and a record of
each that cannot be opened is no great cost. Above, what the tree can list counts."""

NO_MORE = "no more are taken"
"""By these words the failed record of pages that a file says it has and that are not believed is known: a worker, which
believes the file, does not bring them back (producer/job/growth.py)."""

MOST_OBJECTS = 300
"""Page tree entries that are read; of nodes with more than are left the entries are counted unread, as a page each."""


class Listed(NamedTuple):
    """What the tree lists.

    Attributes:
        least: pages, as far as that is soon known; 0 if that is not known.
        most: more there cannot be; 0 if that is not known. Where the tree is too large to be read, the number of
            objects in the file: each page is one.
    """

    least: int = 0
    most: int = 0


def listed_pages(file: BinaryIO, counted: int) -> Listed:
    """Pages in the tree.

    Args:
        file: the open PDF.
        counted: what pdfium says; more than one above that is not looked for.
    """
    size = file.seek(0, os.SEEK_END)
    unread = Listed(0, max(1, size // BYTES_A_PAGE))
    if size > MOST_BYTES:
        return unread
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        # strict: a damaged table is an error at once; made anew from a large file it would take minutes.
        reader = PdfReader(cast("IO[bytes]", file), strict=size > MENDED_BYTES)
        if reader.is_encrypted:
            reader.decrypt("")
        root: Any = reader.trailer["/Root"]
        objects = sum(map(len, reader.xref.values())) + len(reader.xref_objStm)
        return _leaves(root["/Pages"], counted, objects)
    except Exception:  # hostile and sloppy files raise any class, MemoryError too; pdfium has read this one
        return unread


def believed(counted: int, listed: Listed) -> tuple[int, str]:
    """How many pages of a PDF are taken, and why it may have others; empty if those are all.

    Args:
        counted: what pdfium says.
        listed: what its tree bears out.
    """
    if counted > BELIEVED_PAGES and 1 <= listed.most < counted:
        return listed.most, more_than_listed(counted, listed.most)
    if listed.least > counted >= 1:
        said = f"its page tree lists more than the {counted} it says it has"
        return counted, f"{said}; `qpdf in.pdf out.pdf` may repair it"
    return counted, ""


def more_than_taken(said: int) -> str:
    """Why the pages are not all of a file, which says it has more than are taken of any."""
    return f"it says that it has {said:,} pages; of one file {NO_MORE} than {MOST_PAGES_OF_A_FILE:,}: split it"


def more_than_listed(said: int, listed: int) -> str:
    """Why the pages are not all of a PDF, which says it has more than its page tree lists."""
    return (
        f"it says that it has {said:,} pages, and can list only {listed:,}: {NO_MORE}; "
        "`qpdf in.pdf out.pdf` may repair it"
    )


def _leaves(root: Any, counted: int, objects: int) -> Listed:
    stack, leaves, read = [root], 0, 0
    missing, is_whole = 0, True
    while stack and leaves <= counted:
        kids = stack.pop().get("/Kids", ())
        if len(kids) + read > MOST_OBJECTS:
            leaves += len(kids)
            is_whole = False
            continue
        for kid in kids:
            read += 1
            entry = kid.get_object()
            if entry is None:
                missing += 1
                continue
            if "/Kids" in entry:
                stack.append(entry)
            else:
                leaves += 1
    return Listed(leaves, leaves + missing if is_whole and not stack else objects)
