"""Masks of the pictures on a PDF's page, as PDFs of their own: pdfium draws with them, and tells nothing of them.

In scans of several layers (mixed raster content) the letters are the mask of a picture of one colour. Where pdfium
cannot read a mask it draws the whole picture, or nothing of it. pypdf takes the mask out of the file.
"""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

if TYPE_CHECKING:
    from pypdf.generic import StreamObject

MOST_BYTES = 64 << 20
"""Larger files are not looked at: pypdf is asked for a page, which must cost less than to draw it."""

MENDED_BYTES = 1 << 20
"""Up to this size a damaged table of objects is made anew."""

MOST_OBJECTS = 5000
"""Pictures and forms of a page."""

MOST_DEPTH = 8
"""Of forms in forms."""

_PIECE = 1 << 20
_MASKED = re.compile(rb"/S?Mask[\s\0]*\d+[\s\0]+\d+[\s\0]+R")
_LONGEST = 64  # bytes, of such an entry
_DRAWN = b"1 0 0 1 0 0 cm /I Do"
_OF_PICTURES = ("/SMask", "/Mask", "/Matte", "/OC", "/SMaskInData")


class Masked(NamedTuple):
    """What a picture is known by, to pdfium and to pypdf."""

    width: int
    height: int
    stored_bytes: int


def masks_on(file: BinaryIO, number: int, most_bytes: int) -> dict[Masked, list[StreamObject]]:
    """The masks of a page's pictures; none where they cannot be told.

    Args:
        file: the open PDF.
        number: of the page, from 0.
        most_bytes: files that are larger are not looked at.
    """
    if file.seek(0, os.SEEK_END) > min(MOST_BYTES, most_bytes) or not _has_masks(file):
        return {}
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    masks: dict[Masked, list[StreamObject]] = {}
    try:
        from pypdf import PdfReader
        from pypdf.generic import StreamObject

        # strict: a damaged table is an error at once; made anew from a large file it would take minutes.
        reader = PdfReader(cast("IO[bytes]", file), strict=file.seek(0, os.SEEK_END) > MENDED_BYTES)
        if reader.is_encrypted:
            reader.decrypt("")
        root: Any = reader.trailer["/Root"]
        if root["/Pages"].get("/Count") != len(reader.pages):
            return {}  # pdfium's page may be another
        for picture in _pictures_in(reader.pages[number], 0, iter(range(MOST_OBJECTS))):
            mask = picture["/SMask"] if "/SMask" in picture else picture.get("/Mask")
            if isinstance(mask := mask.get_object() if mask else mask, StreamObject):  # no list of colours
                known = Masked(picture["/Width"], picture["/Height"], len(picture._data))
                if not any(mask is other for other in masks.setdefault(known, [])):
                    masks[known].append(mask)
    except Exception:  # hostile and sloppy files raise any class, MemoryError too; pdfium has read this one
        return {}
    return masks


def _has_masks(file: BinaryIO) -> bool:
    """Whether any picture has one: what describes a stream is never packed. pypdf is loaded for no other file."""
    file.seek(0)
    end = b""
    while piece := file.read(_PIECE):
        if _MASKED.search(end + piece):
            return True
        end = piece[-_LONGEST:]
    return False


def _pictures_in(holder: Any, depth: int, left: Iterator[int]) -> Iterator[Any]:
    for entry in holder.get("/Resources", {}).get("/XObject", {}).values():
        if next(left, None) is None:
            return
        found = entry.get_object()
        if found["/Subtype"] == "/Image":
            yield found
        elif depth < MOST_DEPTH:
            yield from _pictures_in(found, depth + 1, left)


def as_pdf(mask: StreamObject) -> bytes:
    """A mask as the picture on a page.

    Raises:
        Exception: of any class, where the file is damaged, or read otherwise than pdfium reads it.
    """
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    page = writer.add_blank_page(100, 100)
    picture: Any = mask.clone(writer)
    for key in _OF_PICTURES:
        picture.pop(key, None)
    if "\\x00" in repr(dict(picture)):
        raise ValueError("white space that pypdf takes for a part of a name")
    contents = DecodedStreamObject()
    contents.set_data(_DRAWN)
    pictures = DictionaryObject({NameObject("/I"): picture.indirect_reference})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/XObject"): pictures})
    page[NameObject("/Contents")] = writer._add_object(contents)
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()
