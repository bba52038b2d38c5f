"""Filled-in fields of a PDF's page: pdfium draws them as the form's alone, and pages taken out of a form may have none.

Mergers that leave the form out (pypdf's `add_page` is one) leave the widgets with what they show. pdfium needs no form
in the document for them, but of each widget a field's name and type, which may have been the form's as well.
"""

from __future__ import annotations

import ctypes
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

MOST_WIDGETS = 5000
"""Of a page are looked at."""


def load_page(document: pypdfium2.PdfDocument, number: int) -> pypdfium2.PdfPage:
    """A page whose fields are drawn with it. The first of its document that is loaded.

    Raises:
        pypdfium2.PdfiumError: it cannot be read.
    """
    # pypdfium2 makes nothing that draws fields unless the document has a form; pdfium could. Of XFA it says on stderr
    # how to install another pdfium.
    document.get_formtype = lambda: pdfium.FORMTYPE_ACRO_FORM
    document.init_forms()
    page = document[number]
    if _complete_widgets(document.formenv, page.raw):
        page.close()
        page = document[number]
    return page


def is_drawn_by_its_reader(document: pypdfium2.PdfDocument) -> bool:
    """Whether it is a form (dynamic XFA) that its reader must draw: its page says "Please wait..."."""
    return bool(pdfium.FPDF_GetFormType(document.raw) == pdfium.FORMTYPE_XFA_FULL)


def _complete_widgets(form: Any, page: Any) -> bool:
    """Gives widgets that are of no field a name and a type, in memory. Whether there were any."""
    found = False
    for number in range(min(MOST_WIDGETS, pdfium.FPDFPage_GetAnnotCount(page))):
        widget = pdfium.FPDFPage_GetAnnot(page, number)
        if (
            pdfium.FPDFAnnot_GetSubtype(widget) == pdfium.FPDF_ANNOT_WIDGET
            and pdfium.FPDFAnnot_GetFormFieldType(form, widget) < 0
            and pdfium.FPDFAnnot_HasKey(widget, b"AP")
        ):
            # What has states to choose from is a button: ISO 32000-1, table 164.
            kind = "Btn" if pdfium.FPDFAnnot_HasKey(widget, b"AS") else "Tx"
            for key, value in ((b"T", f"widget {number}"), (b"FT", kind)):
                text = ctypes.create_string_buffer((value + "\0").encode("utf-16-le"))
                pdfium.FPDFAnnot_SetStringValue(widget, key, ctypes.cast(text, pdfium.FPDF_WIDESTRING))
            found = True
        pdfium.FPDFPage_CloseAnnot(widget)
    return found
