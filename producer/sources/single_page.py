"""One page of a PDF as a PDF of its own that is drawn as the page is: with its form's fields, and its layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pypdf import PdfReader, PdfWriter

OF_PAGES = ("/MediaBox", "/CropBox", "/Rotate", "/Resources")
"""What a page has of the nodes above it, ISO 32000-1, table 30."""

OF_FIELDS = ("/FT", "/Ff", "/V", "/DV", "/DA", "/Q", "/Opt", "/MaxLen", "/T")
"""Of a field what its widgets have of it, ISO 32000-1, tables 220, 222, 229, 231; and its name."""

MOST_LEVELS = 32
"""Above a page or a field. Sloppy files have circles."""


def numbers_as_pdfium(reader: PdfReader) -> bool:
    """Whether pypdf's page is the page that a worker's pdfium has at this number.

    pypdf passes over what is no page in the page tree, where pdfium has a damaged one. Both then go by another number.
    """
    root: Any = reader.trailer["/Root"]
    return bool(root["/Pages"].get("/Count") == len(reader.pages))


def alone(reader: PdfReader, number: int) -> PdfWriter:
    """A document of this page.

    Args:
        reader: the PDF.
        number: of the page, from 0.

    Raises:
        Exception: of any class, where the file is damaged.
    """
    from pypdf import PdfWriter
    from pypdf.generic import NameObject

    writer = PdfWriter()
    source: Any = reader.pages[number]
    page: Any = writer.add_page(source)
    _inherit(page, source, OF_PAGES)
    root: Any = reader.trailer["/Root"]
    if "/OCProperties" in root:  # which layers are shown
        writer.root_object[NameObject("/OCProperties")] = root["/OCProperties"].clone(writer)
    if "/AcroForm" in root and "/Annots" in page:
        _add_form(writer, page, source, root["/AcroForm"])
    return writer


def _add_form(writer: PdfWriter, page: Any, source: Any, form: Any) -> None:
    """Fields are drawn by the form alone. Each widget becomes a field of its own: its siblings are elsewhere."""
    from pypdf.generic import ArrayObject, DictionaryObject, NameObject

    fields = ArrayObject()
    for ours, theirs in zip(page["/Annots"], source["/Annots"], strict=True):
        widget, field = ours.get_object(), theirs.get_object()
        if widget.get("/Subtype") != "/Widget":
            continue
        _inherit(widget, field, OF_FIELDS)
        widget.pop("/Parent", None)
        fields.append(ours)
    if fields:
        ours_form = DictionaryObject({NameObject("/Fields"): fields})
        for key in ("/DR", "/DA", "/Q", "/NeedAppearances"):
            if key in form:
                ours_form[NameObject(key)] = form[key].clone(writer)
        writer.root_object[NameObject("/AcroForm")] = writer._add_object(ours_form)


def _inherit(ours: Any, theirs: Any, keys: Iterable[str]) -> None:
    """What a copy lacks that its original has from above. pypdf goes down the tree for it, pdfium up its /Parents."""
    from pypdf.generic import NameObject

    for _ in range(MOST_LEVELS):
        for key in keys:
            if key in theirs and key not in ours:
                ours[NameObject(key)] = theirs[key].clone(ours.indirect_reference.pdf)
        if "/Parent" not in theirs:
            break
        theirs = theirs["/Parent"]
