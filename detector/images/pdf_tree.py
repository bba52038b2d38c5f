"""How many pages the page tree of a PDF lists: pdfium believes the number that stands there, and drops the rest."""

from __future__ import annotations

import logging
import os
from typing import IO, Any, BinaryIO, cast

MOST_BYTES = 64 << 20
"""Larger files are not looked at: the cost must stay below that of counting."""

MENDED_BYTES = 1 << 20
"""Up to this size a damaged table of objects is made anew."""

MOST_OBJECTS = 300
"""Page tree entries that are read; of nodes with more than are left the entries are counted unread, as a page each."""


def listed_pages(file: BinaryIO, counted: int) -> int:
    """Pages in the tree, as far as that is soon known; 0 if that is not known.

    Args:
        file: the open PDF.
        counted: what pdfium says; more than one above that is not looked for.
    """
    size = file.seek(0, os.SEEK_END)
    if size > MOST_BYTES:
        return 0
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        # strict: a damaged table is an error at once; made anew from a large file it would take minutes.
        reader = PdfReader(cast("IO[bytes]", file), strict=size > MENDED_BYTES)
        if reader.is_encrypted:
            reader.decrypt("")
        root: Any = reader.trailer["/Root"]
        return _leaves(root["/Pages"], counted)
    except Exception:  # hostile and sloppy files raise any class, MemoryError too; pdfium has read this one
        return 0


def _leaves(root: Any, counted: int) -> int:
    stack, leaves, read = [root], 0, 0
    while stack and leaves <= counted:
        kids = stack.pop().get("/Kids", ())
        if len(kids) + read > MOST_OBJECTS:
            leaves += len(kids)
            continue
        for kid in kids:
            read += 1
            entry = kid.get_object()
            if entry is None:
                continue
            if "/Kids" in entry:
                stack.append(entry)
            else:
                leaves += 1
    return leaves
