"""`ocr-worker doctor` says which East Asian text of PDFs this machine cannot draw."""

from __future__ import annotations

import pytest

from detector.errors import UnsupportedFormat
from worker.ops import east_asian_fonts
from worker.ops.doctor import judge_fonts


def test_each_script_is_drawn_or_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fonts this machine has: the page is one that pdfium reads, and its text is of that script."""
    undrawn = east_asian_fonts.undrawn_scripts()
    assert set(undrawn) <= set(east_asian_fonts.SCRIPTS)
    finding = judge_fonts(undrawn)
    assert finding.verdict == ("warn" if undrawn else "ok")

    def refuse(*_: object, **__: object) -> None:
        raise UnsupportedFormat("x")

    monkeypatch.setattr(east_asian_fonts, "open_page", refuse)
    finding = judge_fonts(east_asian_fonts.undrawn_scripts())
    assert finding.verdict == "warn" and "Chinese, Japanese, Korean" in finding.message


@pytest.mark.parametrize("script", east_asian_fonts.SCRIPTS)
def test_text_of_the_script(script: str) -> None:
    import pypdfium2

    document = pypdfium2.PdfDocument(east_asian_fonts._page(*east_asian_fonts.SCRIPTS[script]))
    page = document[0]
    codes = east_asian_fonts.SCRIPTS[script][3]
    # What nothing is drawn of pdfium passes over when it tells the text: a pen's width is given to it.
    for found in page.get_objects():
        pypdfium2.raw.FPDFTextObj_SetTextRenderMode(found.raw, pypdfium2.raw.FPDF_TEXTRENDERMODE_FILL_STROKE)
        found.transform(pypdfium2.PdfMatrix())
    assert page.get_textpage().get_text_range() == "".join(chr(int(codes[n : n + 4], 16)) for n in (0, 4))
