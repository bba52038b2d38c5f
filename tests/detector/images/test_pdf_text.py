"""A PDF's page whose text is in fonts that are not there is no blank page that is "ok"."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from detector.errors import UnsupportedFormat
from detector.images.page import Page, open_page
from tests.producer.sources.test_page_bounds import written_pdf

pytestmark = pytest.mark.slow

LETTERS = range(0x13A0, 0x13A8)
"""Cherokee: in none of pdfium's fonts, nor in one that it asks a machine for."""

LOST = b"<%s>Tj " % "".join(f"{letter:04x}" for letter in LETTERS).encode()
SPACES = b"<0020 00a0 3000 0020>Tj "
MAP = (
    b"/CIDInit/ProcSet findresource begin 12 dict begin begincmap /CMapName/X def /CMapType 2 def "
    b"1 begincodespacerange<0000><ffff>endcodespacerange 1 beginbfrange<0000><ffff><0000>endbfrange "
    b"endcmap end end"
)


def stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream\n" % (entries, len(data), data)


def document(contents: bytes, name: bytes = b"NoSuchFont", form: bytes = b"") -> bytes:
    """A page of 600 x 600 pt: font /F is not there, /H is Helvetica, /I a white picture, /X a form, /O a layer."""
    resources = b"/Font<</F 5 0 R/H<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>"
    page = (
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 600]/Contents 4 0 R/Resources<<%s/XObject<</I 8 0 R/X 9 0 R>>"
        b"/Properties<</O 10 0 R>>>>>>"
    )
    font = (
        b"<</Type/Font/Subtype/Type0/BaseFont/%s/Encoding/Identity-H/DescendantFonts[6 0 R]/ToUnicode 7 0 R>>",
        b"<</Type/Font/Subtype/CIDFontType2/BaseFont/%s/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)"
        b"/Supplement 0>>/DW 1000/FontDescriptor<</Type/FontDescriptor/FontName/%s/Flags 4/Ascent 800/Descent -200>>>>",
    )
    white = stream(b"\xff", b"/Type/XObject/Subtype/Image/Width 1/Height 1/ColorSpace/DeviceGray/BitsPerComponent 8")
    return written_pdf(
        b"<</Type/Catalog/Pages 2 0 R/OCProperties<</OCGs[10 0 R]/D<</OFF[10 0 R]>>>>>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        page % resources,
        stream(contents),
        font[0] % name,
        font[1] % (name, name),
        stream(MAP),
        white,
        stream(form, b"/Type/XObject/Subtype/Form/BBox[0 0 600 600]/Resources<<%s>>" % resources),
        b"<</Type/OCG/Name(x)>>",
    )


def opened(tmp_path: Path, data: bytes) -> Page:
    (tmp_path / "a.pdf").write_bytes(data)
    return open_page(tmp_path / "a.pdf", 0, limit_side=960)


def lines(count: int, shown: bytes = LOST, font: bytes = b"/F 30 Tf ") -> bytes:
    return b"".join(b"BT " + font + b"1 0 0 1 40 %d Tm " % (550 - 50 * n) + shown + b"ET " for n in range(count))


PRINTED = lines(8, b"(TOTAL 777)Tj ", b"/H 30 Tf ")
ALL_LOST = {
    "lines": lines(8),
    "one among spaces": lines(1, SPACES + LOST),
    "one by one": b"".join(b"BT /F 30 Tf %d 200 Td <13a0>Tj <0020>Tj ET " % (40 * n) for n in range(9)),
    "upright": b"BT /F 30 Tf 0 1 -1 0 200 100 Tm " + LOST + b"ET",
    "leaning": b"BT /F 30 Tf 1 0 .3 1 100 200 Tm " + LOST + b"ET",
    "of a small font that is put on large": b"BT /F 1 Tf 30 0 0 30 40 300 Tm " + LOST + b"ET",
    "in a form": b"q .5 0 0 .5 100 100 cm /X Do Q",
    "in a frame": b"q 20 20 560 560 re W n " + lines(8) + b"Q 2 w 10 10 580 580 re S",
    "on a colour": b".8 .9 1 rg 0 0 600 600 re f 0 g " + lines(8),
    "above a picture": b"q 60 0 0 60 0 0 cm /I Do Q " + lines(8),
    "in a table": lines(8) + b"1 w " + b"".join(b"0 %d m 600 %d l S " % (y, y) for y in range(540, 100, -50)),
}
NOT_SEEN = {
    "spaces": lines(8, SPACES),
    "invisible": b"3 Tr " + lines(8),
    "a clipping path": b"7 Tr " + lines(8),
    "beside the page": b"1 0 0 1 0 700 cm " + lines(8),
    "white": b"1 g " + lines(8),
    "cut away": b"q 0 0 20 20 re W n " + lines(8) + b"Q",
    "form cut away": b"q 0 0 20 20 re W n /X Do Q",
    "below a box": lines(8) + b"1 g 0 0 600 600 re f",
    "below a picture": lines(8) + b"q 600 0 0 600 0 0 cm /I Do Q",
    "below what is drawn": lines(8) + b"0 g " + b"".join(b"40 %d 300 12 re f " % (552 - 50 * n) for n in range(8)),
    "above what is drawn": b".8 0 0 rg "
    + b"".join(b"40 %d 300 6 re f " % (556 - 50 * n) for n in range(8))
    + b"0 g "
    + lines(8),
    "a layer that is off": b"/OC/O BDC " + lines(8) + b"EMC",
    "a form in such a layer": b"/OC/O BDC /X Do EMC",
}


@pytest.mark.parametrize("name", ALL_LOST)
def test_a_page_that_is_lost(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedFormat, match=r"\d+ % of the PDF page .*\(NoSuchFont\); .*fonts-wqy-microhei"):
        opened(tmp_path, document(ALL_LOST[name], form=lines(8)))


@pytest.mark.parametrize("name", NOT_SEEN)
def test_what_would_not_be_seen_is_no_loss(tmp_path: Path, name: str) -> None:
    for contents in (NOT_SEEN[name], b"q " + NOT_SEEN[name] + b" Q 0 Tr " + PRINTED):
        page = opened(tmp_path, document(contents, form=lines(8)))
        assert "damaged" not in page.flags and page.share is None


def test_a_part_is_told(tmp_path: Path) -> None:
    """Of the area of what is on the page."""
    page = opened(tmp_path, document(lines(1) + PRINTED.replace(b"40 550 Tm", b"340 550 Tm")))
    assert "damaged" in page.flags
    assert page.share == pytest.approx(0.8, abs=0.1)


def test_beside_a_picture(tmp_path: Path) -> None:
    """A scan is read; a page number in a font that is not there is no loss, lines on it are one."""
    scan = b"q 600 0 0 600 0 0 cm /I Do Q "
    number = b"BT /F 12 Tf 300 20 Td " + LOST + b"ET"
    assert opened(tmp_path, document(scan + number)).share is None
    assert opened(tmp_path, document(scan + lines(8))).share == pytest.approx(0.86, abs=0.05)


def test_names_of_fonts(tmp_path: Path) -> None:
    """They are bytes of a stranger's: SimSun in GBK, control characters, any length."""
    with pytest.raises(UnsupportedFormat, match=re.escape(r"(\xcb\xce\xcc\xe5\x1b")):
        opened(tmp_path, document(lines(2), b"#CB#CE#CC#E5#1B" + b"x" * 90))


def test_latin_fonts_of_pdfium(tmp_path: Path) -> None:
    for name in (b"Helvetica", b"Times-Roman", b"Courier", b"Arial", b"NoSuchFont"):
        contents = lines(3, b"(Total 777, \xe4\xe9\xa7)Tj ", b"/H 30 Tf ")
        page = opened(
            tmp_path, document(contents).replace(b"/BaseFont/Helvetica", b"/Encoding/WinAnsiEncoding/BaseFont/" + name)
        )
        assert page.share is None


def test_many_characters_cost_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from detector.images.decoders import pdf_text

    monkeypatch.setattr(pdf_text, "MOST_CHARACTERS", 50)
    looked_at: list[int] = []
    place = pdf_text._place

    def counted(page: object, text: object, index: int, pixels: object) -> object:
        looked_at.append(index)
        return place(page, text, index, pixels)  # type: ignore[arg-type]

    monkeypatch.setattr(pdf_text, "_place", counted)
    with pytest.raises(UnsupportedFormat):
        opened(tmp_path, document(lines(11, LOST * 6, b"/F 5 Tf ")))
    assert 20 < len(looked_at) <= 50
