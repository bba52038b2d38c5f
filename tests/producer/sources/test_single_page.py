"""A page that is sent alone is drawn as in its document: with its form's fields, its layers, and its own number."""

from __future__ import annotations

import io
import random
import zlib

import numpy as np
import pypdfium2
import pytest
from pypdf import PdfReader

from detector.images.decoders.pdf_fields import load_page
from producer.sources.page_tree import PageTree
from producer.sources.single_page import alone, numbers_as_pdfium, open_pdf, page_at
from tests.faulty import faulty_pdf
from tests.producer.sources.test_page_bounds import written_pdf

FONT = b"/Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica-Bold>>>>"


def stream(content: bytes, entries: bytes = b"") -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream\n" % (entries, len(content), content)


def printed(lines: int) -> bytes:
    return stream(b"".join(b"BT/F 30 Tf 40 %d Td(INVOICE %d)Tj ET " % (550 - 60 * n, n * 777) for n in range(lines)))


def page(contents: int, more: bytes = b"", resources: bytes = FONT) -> bytes:
    return b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 600]/Contents %d 0 R/Resources<<%s>>%s>>" % (
        contents,
        resources,
        more,
    )


def two_pages(second: bytes, *objects: bytes, root: bytes = b"", tree: bytes = b"") -> bytes:
    """Its first page is page 3 0 R, its second 4 0 R; the first further object is 6."""
    pages = b"<</Type/Pages/Kids[3 0 R 4 0 R]/Count 2%s>>" % tree
    return written_pdf(b"<</Type/Catalog/Pages 2 0 R%s>>" % root, pages, page(5), second, printed(1), *objects)


def look(text: bytes) -> bytes:
    entries = b"/Type/XObject/Subtype/Form/BBox[0 0 500 40]/Resources<<%s>>" % FONT
    return stream(b"/Tx BMC BT/F 30 Tf 5 8 Td(%s)Tj ET EMC" % text, entries)


def form(appearance: bytes, more: bytes = b"") -> bytes:
    """A field that is its widget, and one of two widgets, which have what they show from above; one is elsewhere."""
    dress = b"/DA(/Helv 30 Tf 0 g)/DR<</Font<</Helv<</Type/Font/Subtype/Type1/BaseFont/Helvetica-Bold>>>>>>"
    return two_pages(
        page(5, b"/Annots[6 0 R 8 0 R 12 0 R]"),
        b"<</Type/Annot/Subtype/Widget/FT/Tx/T(a)/V(TOTAL 777)/F 4/Rect[40 300 560 340]/P 4 0 R%s>>" % appearance,
        b"<</FT/Tx/T(b)/V(PAID)/Kids[8 0 R 9 0 R]>>",
        b"<</Type/Annot/Subtype/Widget/Parent 7 0 R/F 4/Rect[40 200 560 240]/P 4 0 R%s>>" % appearance,
        b"<</Type/Annot/Subtype/Widget/Parent 7 0 R/F 4/Rect[40 200 560 240]/P 3 0 R%s>>" % appearance,
        look(b"FILLED IN"),
        b"<</Fields[6 0 R 7 0 R]%s%s>>" % (dress, more),
        b"<</Type/Annot/Subtype/FreeText/F 4/Rect[40 100 560 140]/Contents(x)/AP<</N 10 0 R>>>>",
        root=b"/AcroForm 11 0 R",
    )


SQUARE = stream(b"q 200 0 0 50 50 50 cm 0 0 1 1 re f Q", b"/Type/XObject/Subtype/Form/BBox[0 0 600 600]")


def spaced(white: bytes) -> bytes:
    """White space between every two tokens of a page and of a picture on it."""
    entries = (
        b"/Type /XObject /Subtype /Image /Width 8 /Height 8 /BitsPerComponent 1 /ImageMask false /Filter /FlateDecode "
        b"/ColorSpace [ /Indexed /DeviceRGB 1 <ffffff000000> ]"
    )
    resources = b"<< /XObject << /I 7 0 R >> >>"
    tokens = b"<< /Type /Page /Parent 2 0 R /MediaBox [ 0 0 600 600 ] /Contents 6 0 R /Resources %s >>"
    return two_pages(
        (tokens % resources).replace(b" ", white),
        stream(b"q 300 0 0 300 100 100 cm /I Do Q"),
        stream(zlib.compress(bytes([0xAA]) * 8), entries.replace(b" ", white)),
    )


DOCUMENTS = {
    "fields": form(b"/AP<</N 10 0 R>>"),
    "fields of no form": form(b"/AP<</N 10 0 R>>").replace(b"/AcroForm 11 0 R", b""),
    "fields without a look": form(b"", b"/NeedAppearances true"),
    "hidden layer": two_pages(
        page(6, resources=FONT + b"/Properties<</O 7 0 R>>"),
        stream(b"/OC/O BDC BT/F 30 Tf 40 300 Td(SECRET)Tj ET EMC BT/F 30 Tf 40 200 Td(SEEN)Tj ET"),
        b"<</Type/OCG/Name(x)>>",
        root=b"/OCProperties<</OCGs[7 0 R]/D<</OFF[7 0 R]>>>>",
    ),
    "inherited": two_pages(
        b"<</Type/Page/Parent 2 0 R/Contents 5 0 R>>",
        tree=b"/MediaBox[0 0 500 700]/Rotate 90/Resources<<%s>>" % FONT,
    ),
    "names of bytes": two_pages(
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 600]/Contents 6 0 R/Resources<</XObject<</Im#E9 7 0 R"
        b"/\x83e\x83X 7 0 R/A#20#28#80 7 0 R>>>>>>",
        stream(
            b"q 0 -200 Td /Im\xe9 Do Q q 1 0 0 1 0 100 cm /\x83e#83X Do Q q 1 0 0 1 0 300 cm /A#20(#80 Do Q".replace(
                b"(", b"#28"
            )
        ),
        stream(b"q 200 0 0 50 50 50 cm 0 0 1 1 re f Q", b"/Type/XObject/Subtype/Form/BBox[0 0 600 600]"),
    ),
    **{
        f"white space {white.hex()}": spaced(white) for white in (b"\x00", b"\x00\x00 ", b"\x80", b"\xff", b"\n", b"\f")
    },
    "names with white space of pdfium's": two_pages(
        page(6, resources=FONT + b"/XObject<</\x83\x80 7 0 R/A#80#00B 7 0 R>>"),
        stream(b"/\x83\x80 Do q 1 0 0 1 0 200 cm /A#80#00B Do Q"),
        SQUARE,
    ),
    "another parent": two_pages(
        b"<</Type/Page/Parent 6 0 R/Contents 5 0 R>>",
        b"<</Type/Pages/Kids[]/Count 0/MediaBox[0 0 600 600]/Resources<<%s>>>>" % FONT,
    ),
}


def drawn(data: bytes, number: int) -> np.ndarray:
    """(H, W, 3) as a worker draws it."""
    document = pypdfium2.PdfDocument(data)
    try:
        return np.array(load_page(document, number).render(scale=0.5).to_numpy()[:, :, :3])
    finally:
        document.close()


def cut(data: bytes, number: int) -> bytes | None:
    return cut_next(open_pdf(io.BytesIO(data)), PageTree(), number)


def cut_next(reader: PdfReader, tree: PageTree, number: int) -> bytes | None:
    """A page of a PDF that stays open, as `pdf_pages` takes it."""
    if (place := tree.find(reader, number)) is not None:
        page = page_at(reader, place)
    elif numbers_as_pdfium(reader):
        page = reader.pages[number]
    else:
        return None
    out = io.BytesIO()
    alone(reader, page).write(out)
    tree.forget(reader)
    return out.getvalue()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_drawn_as_in_its_document(name: str) -> None:
    data = DOCUMENTS[name]
    for number in range(2):
        single = cut(data, number)
        assert single is not None
        whole = drawn(data, number)
        assert (whole < 128).sum() > 500, "there is something on it"
        assert np.array_equal(drawn(single, 0), whole), number


def test_what_fills_a_form_is_no_page_of_others() -> None:
    single = cut(DOCUMENTS["fields"], 1)
    assert single and len(PdfReader(io.BytesIO(single)).pages) == 1
    assert len(single) < len(DOCUMENTS["fields"]) + 1000


def test_what_it_leads_to_stays() -> None:
    """A table of contents brought every page that it names; here one of 2 MB."""
    heavy = stream(random.Random(0).randbytes(2_000_000))
    links = (
        b"<</Type/Annot/Subtype/Link/Rect[0 0 9 9]/Dest[3 0 R/Fit]>>",
        b"<</Type/Annot/Subtype/Link/Rect[0 0 9 9]/A<</S/GoTo/D[3 0 R/Fit]>>/P 3 0 R>>",
        b"<</Type/Annot/Subtype/Text/Rect[0 0 9 9]/Contents(x)/Popup 9 0 R/IRT 3 0 R>>",
        b"<</Type/Annot/Subtype/Popup/Rect[0 0 9 9]/Parent 3 0 R>>",
    )
    tree = b"<</Type/Pages/Kids[3 0 R 4 0 R]/Count 2>>"
    data = written_pdf(
        b"<</Type/Catalog/Pages 2 0 R>>", tree, page(10), page(5, b"/B[3 0 R]/Annots[6 0 R 7 0 R 8 0 R 9 0 R]"),
        printed(2), *links, heavy,
    )  # fmt: skip
    single = cut(data, 1)
    assert single and len(single) < 10_000
    assert np.array_equal(drawn(single, 0), drawn(data, 1))


@pytest.mark.slow
def test_the_same_number_is_the_same_page() -> None:
    """Pages of `faulty_pdf` are of different widths. Where pypdf numbers otherwise, the whole file is sent."""
    cuts = 0
    for seed in range(30):
        _, data = faulty_pdf(seed)
        try:
            pages = len(pypdfium2.PdfDocument(data))
        except pypdfium2.PdfiumError:
            continue
        for number in range(pages):
            try:
                single = cut(data, number)
            except Exception:
                continue
            if single is not None:
                assert np.array_equal(drawn(single, 0), drawn(data, number)), (seed, number)
                cuts += 1
    assert cuts > 50


def test_a_stream_that_pypdf_does_not_find() -> None:
    """It is behind a comment; pdfium draws it. The whole file is sent."""
    data = two_pages(page(6), printed(3).replace(b">>stream", b">>% a comment\nstream"))
    assert (drawn(data, 1) < 128).sum() > 500
    with pytest.raises(ValueError, match="stream"):
        cut(data, 1)


def test_a_tree_with_a_hole() -> None:
    kids = b"<</Type/Pages/Kids[null 3 0 R 4 0 R]/Count 3>>"
    data = written_pdf(b"<</Type/Catalog/Pages 2 0 R>>", kids, page(5), page(6), printed(1), printed(3))
    assert len(pypdfium2.PdfDocument(data)) == 3
    assert cut(data, 1) is None
