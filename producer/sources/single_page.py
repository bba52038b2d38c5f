"""One page of a PDF as a PDF of its own that is drawn as the page is: with its form's fields, and its layers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from detector.images.regular_file import raise_read_error

if TYPE_CHECKING:
    from pypdf import PageObject, PdfReader, PdfWriter
    from pypdf.generic import DictionaryObject, IndirectObject

OF_PAGES = ("/MediaBox", "/CropBox", "/Rotate", "/Resources")
"""What a page has of the nodes above it, ISO 32000-1, table 30."""

OF_FIELDS = ("/FT", "/Ff", "/V", "/DV", "/DA", "/Q", "/Opt", "/MaxLen", "/T")
"""Of a field what its widgets have of it, ISO 32000-1, tables 220, 222, 229, 231; and its name."""

ELSEWHERE = ("/A", "/AA", "/B", "/Dest", "/IRT", "/P", "/PA", "/Popup", "/StructParent", "/StructParents")
"""Of pages and annotations what leads to other pages, and is not drawn. A table of contents brought the whole book."""

_WHITE = (b"\x00", b"\t", b"\n", b"\f", b"\r", b" ", b"\x80", b"\xff")
_END_OF_NAME = re.compile(rb"[\x00\t\n\f\r \x80\xff]+|[()<>\[\]{}/%]")
_REFERENCE = re.compile(rb"[+-]?(\d+)[\x00\t\n\f\r \x80\xff]+(\d+)[\x00\t\n\f\r \x80\xff]+R[^a-zA-Z]")
_ESCAPED = b"#()<>[]{}/%"
MOST_LEVELS = 32
"""Above a page or a field. Sloppy files have circles."""


def open_pdf(stream: BinaryIO) -> PdfReader:
    """A PDF to take pages out of; names in it are bytes, and white space is what pdfium takes for it.

    pypdf reads names as UTF-8, GBK or Latin-1, and writes UTF-8: a picture of the name `/Im\\xe9` was not found again.
    A NUL it takes for a part of names and of references, where it is white space, ISO 32000-1, table 1: AutoCAD's
    plotter writes one behind `/DeviceRGB`, and such pictures were gone. pdfium takes 80 and FF for white space, too.

    Raises:
        Exception: of any class, where the file is damaged.
    """
    import pypdf._utils
    import pypdf.generic._base
    import pypdf.generic._data_structures
    from pypdf import PdfReader
    from pypdf.generic import NameObject

    NameObject.CHARSETS = ("latin-1",) * 3
    NameObject.delimiter_pattern = _END_OF_NAME
    pypdf.generic._data_structures.IndirectPattern = _REFERENCE
    for module in (pypdf._utils, pypdf.generic._base, pypdf.generic._data_structures):
        module.WHITESPACES = _WHITE  # type: ignore[attr-defined]
    NameObject.renumber = _written  # type: ignore[method-assign, assignment]
    return PdfReader(cast("IO[bytes]", stream), strict=False)


def _written(name: str) -> bytes:
    """As ISO 32000-1, 7.3.5 has it."""
    plain = name[1:].encode("latin-1")
    return b"/" + b"".join(
        b"%c" % one if 0x21 <= one <= 0x7E and one not in _ESCAPED else b"#%02X" % one for one in plain
    )


def numbers_as_pdfium(reader: PdfReader) -> bool:
    """Whether pypdf's page is the page that a worker's pdfium has at this number.

    pypdf passes over what is no page in the page tree, where pdfium has a damaged one. Both then go by another number.
    """
    root: Any = reader.trailer["/Root"]
    return bool(root["/Pages"].get("/Count") == len(reader.pages))


def page_at(reader: PdfReader, place: IndirectObject) -> PageObject:
    """The page there (`page_tree`), for `alone`: a copy, which may be changed.

    Raises:
        Exception: of any class, where the file is damaged.
    """
    from pypdf import PageObject

    page = PageObject(reader, place)
    page.update(cast("DictionaryObject", place.get_object()))
    return page


def alone(reader: PdfReader, source: Any) -> PdfWriter:
    """A document of this page.

    Args:
        reader: the PDF, of `open_pdf`; what leads from the page to others is taken out of what it holds, too, so that
            it must read that again for another page (`PageTree.forget`).
        source: the page, of `page_at` or the reader's own.

    Raises:
        OSError: a read of the file failed.
        Exception: of any class, where the file is damaged.
    """
    from pypdf import PdfWriter
    from pypdf.generic import NameObject

    _inherit(source, OF_PAGES)
    for key in ELSEWHERE:
        source.pop(key, None)
    if "/Annots" in source:
        _cut_off(source["/Annots"])
    writer = PdfWriter()
    page: Any = writer.add_page(source)
    root: Any = reader.trailer["/Root"]
    if "/OCProperties" in root:  # which layers are shown
        writer.root_object[NameObject("/OCProperties")] = root["/OCProperties"].clone(writer)
    if "/AcroForm" in root and "/Annots" in page:
        _add_form(writer, page, root["/AcroForm"])
    if "/AcroForm" in root and "/XFA" in root["/AcroForm"] and "/NeedsRendering" in root:
        _mark_as_xfa(writer, root["/NeedsRendering"])
    if any(_has_lost_its_stream(entry) for entry in writer._objects):
        raise ValueError("pypdf has not found the data of a stream")
    raise_read_error(reader.stream)  # pypdf goes on over some
    return writer


def _has_lost_its_stream(entry: Any) -> bool:
    """Whether it is a dictionary with a length, and no stream: pypdf takes one for it behind a comment, for example."""
    from pypdf.generic import DictionaryObject, StreamObject

    return isinstance(entry, DictionaryObject) and not isinstance(entry, StreamObject) and "/Length" in entry


def _cut_off(annotations: Any) -> None:
    """Takes from annotations what they have elsewhere; fields have a part of theirs there."""
    for entry in annotations:
        annotation = entry.get_object()
        if annotation.get("/Subtype") == "/Widget":
            _inherit(annotation, OF_FIELDS)
        for key in (*ELSEWHERE, "/Parent"):
            annotation.pop(key, None)


def _add_form(writer: PdfWriter, page: Any, form: Any) -> None:
    """Fields are drawn by the form alone. Each widget becomes a field of its own: its siblings are elsewhere."""
    from pypdf.generic import ArrayObject, DictionaryObject, NameObject

    fields = ArrayObject(entry for entry in page["/Annots"] if entry.get_object().get("/Subtype") == "/Widget")
    if fields:
        ours = DictionaryObject({NameObject("/Fields"): fields})
        for key in ("/DR", "/DA", "/Q", "/NeedAppearances"):
            if key in form:
                ours[NameObject(key)] = form[key].clone(writer)
        writer.root_object[NameObject("/AcroForm")] = writer._add_object(ours)


def _mark_as_xfa(writer: PdfWriter, needs_rendering: Any) -> None:
    """So that the page is known for one that does not show its form; the form itself is of the whole document."""
    from pypdf.generic import DictionaryObject, NameObject, TextStringObject

    form: Any = writer.root_object.setdefault(NameObject("/AcroForm"), DictionaryObject())
    form.get_object()[NameObject("/XFA")] = TextStringObject("")
    writer.root_object[NameObject("/NeedsRendering")] = needs_rendering.clone(writer)


def _inherit(item: Any, keys: Iterable[str]) -> None:
    """Gives an object what it lacks and has from above. pypdf goes down the tree for it, pdfium up its /Parents."""
    from pypdf.generic import NameObject

    above = item
    for _ in range(MOST_LEVELS):
        if "/Parent" not in above:
            break
        above = above["/Parent"]
        for key in keys:
            if key in above and key not in item:
                item[NameObject(key)] = above.raw_get(key)
