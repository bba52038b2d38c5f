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
