"""Searchable PDFs of PDFs: odd boxes, content that leaves something open, page trees with entries that are no pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pikepdf
import pypdfium2
import pytest
from pikepdf import Array, Dictionary, Name

from producer.output.searchable_pdf import PageNotInPdfError, write_pdf
from tests.document_checks import pdf_words, qpdf_problems
from tests.producer.output.pdf.places import ink, place_of, read

BAR = b"0 g 60 200 120 30 re f\n"


def page_of(folder: Path, content: bytes, **entries: object) -> Path:
    """A PDF of one page with a black bar."""
    with pikepdf.new() as pdf:
        page = Dictionary(
            Type=Name.Page, MediaBox=Array([0, 0, 400, 300]), Contents=pdf.make_stream(content), Resources=Dictionary()
        )
        for name, value in entries.items():
            page[f"/{name}"] = Array(value) if isinstance(value, list) else value
        pdf.pages.append(pikepdf.Page(pdf.make_indirect(page)))
        pdf.save(folder / "a.pdf")
    return folder / "a.pdf"


def with_text(source: Path, *numbers: int) -> Path:
    """The searchable PDF, with a word on the ink of each of these pages."""
    records = []
    for number in numbers:
        page = pypdfium2.PdfDocument(source)[number]
        wide, high = (round(side * 200 / 72) for side in page.get_size())
        left, top, right, bottom = ink(page)
        place = (left * wide, top * high, right * wide, bottom * high)
        records.append(read(f"Word{number}", number, (wide, high), place))
    made = source.with_name("made.pdf")
    write_pdf(source, records, made)
    return made


@pytest.mark.parametrize(
    "boxes",
    [
        {"CropBox": [-100, -100, 600, 600]},
        {"CropBox": [30, 150, 600, 600]},
        {"CropBox": [30, 150, 600, 600], "Rotate": 270},
        {"CropBox": [0, 0, 0, 0]},
        {"CropBox": [1000, 1000, 1100, 1100]},
        {"CropBox": [300, 280, 20, 100], "Rotate": 90},
        {"MediaBox": [400, 300, -50, 0], "CropBox": [-90, 20, 300, 900], "UserUnit": 2},
    ],
)
def test_boxes_that_reach_beyond_the_media_box(tmp_path: Path, boxes: dict[str, object]) -> None:
    """Before: the text lay beside the ink, or nowhere."""
    source = page_of(tmp_path, BAR, **boxes)
    if boxes["CropBox"] == [1000, 1000, 1100, 1100]:  # pdfium has no page then; workers read the media box
        write_pdf(source, [read("Word0", 0, (1111, 833), (167, 194, 500, 278))], tmp_path / "made.pdf")
        with pikepdf.open(tmp_path / "made.pdf", allow_overwriting_input=True) as pdf:
            del pdf.pages[0].CropBox
            pdf.save()
        made = tmp_path / "made.pdf"
    else:
        made = with_text(source, 0)
    page = pypdfium2.PdfDocument(made)[0]
    assert place_of(page, "Word0") == pytest.approx(ink(page), abs=0.01)


@pytest.mark.parametrize(
    "content",
    [
        BAR + b"Q Q\n",
        BAR + b"Q 0.5 0 0 0.5 0 0 cm\n",
        BAR + b"q q 0.5 0 0 0.5 10 10 cm\n",
        BAR + b"(abc\n",
        BAR + b"/Span <<\n",
        BAR + b"BT 7 Tr\n",
        BAR + b"BI /W 5 /H 5 ID xxxx",
        b"q 0.5 0 0 0.5 10 10 cm\n" + BAR,
    ],
)
def test_whatever_the_page_leaves_open(tmp_path: Path, content: bytes) -> None:
    """Before: behind a Q too many, or in an unclosed string, poppler, or nobody, found the text."""
    source = page_of(tmp_path, content)
    made = with_text(source, 0)
    page = pypdfium2.PdfDocument(made)[0]
    drawn = ink(page)
    assert place_of(page, "Word0") == pytest.approx(drawn, abs=0.01)
    ((word,),) = pdf_words(made)
    assert word.text == "Word0"
    assert (word.left, word.top, word.right, word.bottom) == pytest.approx(drawn, abs=0.01)
    assert bool(qpdf_problems(made)) == bool(qpdf_problems(source))


def raw_pdf(objects: Mapping[int, bytes]) -> bytes:
    """A PDF of these objects, written by hand: pikepdf writes no damaged page tree."""
    data, places = b"%PDF-1.5\n", {}
    for number, body in objects.items():
        places[number] = len(data)
        data += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    size = max(objects) + 1
    table = b"".join(
        b"%010d 00000 n \n" % places[number] if number in places else b"0000000000 65535 f \n" for number in range(size)
    )
    tail = b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (size, len(data))
    return data + b"xref\n0 %d\n" % size + table + tail


def tree(kids: bytes, count: int, page: bytes = b"", **more: bytes) -> bytes:
    """Three pages, objects 10 to 12, each with its bar at another height; the second has `page` instead."""
    objects = {1: b"<</Type/Catalog/Pages 2 0 R>>", 2: b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, count)}
    for number in range(3):
        bar = b"0 g 40 %d 60 20 re f" % (20 + 80 * number)
        objects[20 + number] = b"<</Length %d>>stream\n%s\nendstream" % (len(bar), bar)
        own = b"/Contents %d 0 R/Resources<<>>" % (20 + number)
        objects[10 + number] = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 300]%s>>" % own
    if page:
        objects[11] = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 300]%s>>" % page
    return raw_pdf(objects | {int(name[1:]): body for name, body in more.items()})


NODE = b"<</Type/Pages/Parent 2 0 R/Kids[11 0 R]/Count 1>>"
TREES = {
    "null": (tree(b"10 0 R null 11 0 R 12 0 R", 4), {0: 0, 2: 1, 3: 2}),
    "no such object": (tree(b"10 0 R 15 0 R 11 0 R 12 0 R", 4), {0: 0, 2: 1, 3: 2}),
    "no such object, one less": (tree(b"10 0 R 15 0 R 11 0 R 12 0 R", 3), {0: 0, 2: 1}),
    "a number": (tree(b"10 0 R 13 0 R 11 0 R", 3, _13=b"42"), {0: 0, 2: 1}),
    "fewer than are said": (tree(b"10 0 R 11 0 R 12 0 R", 2), {0: 0, 1: 1}),
    "twice": (tree(b"10 0 R 10 0 R 12 0 R", 3), {0: 0, 1: 1, 2: 2}),
    "nested": (tree(b"10 0 R 13 0 R 12 0 R", 3, _13=NODE), {0: 0, 1: 1, 2: 2}),
    "empty node": (tree(b"10 0 R 13 0 R 12 0 R", 2, _13=b"<</Type/Pages/Kids[]/Count 0>>"), {0: 0, 1: 1}),
}


@pytest.mark.parametrize("name", TREES)
def test_text_lies_on_the_page_that_was_read(tmp_path: Path, name: str) -> None:
    """Before: behind an entry that is no page, each page's text lay on the next page, and the last one's was lost."""
    content, pages = TREES[name]
    (tmp_path / "a.pdf").write_bytes(content)
    document = pypdfium2.PdfDocument(with_text(tmp_path / "a.pdf", *pages))
    for read_page, written in pages.items():
        page = document[written]
        assert place_of(page, f"Word{read_page}") == pytest.approx(ink(page), abs=0.01)


def test_a_tree_of_which_nobody_knows_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(tree(b"10 0 R 13 0 R 12 0 R", 3, _13=b"<</Type/Pages/Kids[2 0 R 11 0 R]>>"))
    with pytest.raises(PageNotInPdfError, match=r"a\.pdf: cannot be written as PDF"):
        with_text(tmp_path / "a.pdf", 0)


def test_a_page_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    """It is not passed over: the file is another one by now, or was mended otherwise."""
    source = page_of(tmp_path, BAR)
    with pytest.raises(PageNotInPdfError, match="page 3 that was read is none of the PDF's 1"):
        write_pdf(source, [read("Word", 2, (100, 100), (0, 0, 9, 9))], tmp_path / "made.pdf")


@pytest.mark.parametrize(
    "page",
    [
        b"/Contents[21 0 R null 99 0 R]/Resources<<>>",
        b"/Contents 21 0 R/Resources<</Font 5>>",
        b"/Contents 21 0 R/Resources null",
        b"/Contents 21 0 R",
        b"/Contents 21 0 R/Resources<</Font<</ocrfleet0 5>>>>",
    ],
)
def test_odd_pages_are_written(tmp_path: Path, page: bytes) -> None:
    """Before: a null in /Contents, or a number for fonts, and the document was left out."""
    (tmp_path / "a.pdf").write_bytes(tree(b"10 0 R 11 0 R 12 0 R", 3, page))
    document = pypdfium2.PdfDocument(with_text(tmp_path / "a.pdf", 0, 1, 2))
    for number, found in enumerate(document):
        assert place_of(found, f"Word{number}") == pytest.approx(ink(found), abs=0.01)


def test_what_pages_inherit_stays(tmp_path: Path) -> None:
    """Fonts, boxes and rotation that stand in the page tree."""
    bar = b"BT /F 20 Tf 50 150 Td (MMMM) Tj ET"
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R>>",
        2: b"<</Type/Pages/Kids[3 0 R]/Count 1/MediaBox[0 0 200 300]/CropBox[20 50 180 500]/Rotate 90/Resources"
        b"<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica-Bold>>>>>>>>",
        3: b"<</Type/Page/Parent 2 0 R/Contents 4 0 R>>",
        4: b"<</Length %d>>stream\n%s\nendstream" % (len(bar), bar),
    }
    (tmp_path / "a.pdf").write_bytes(raw_pdf(objects))
    page = pypdfium2.PdfDocument(with_text(tmp_path / "a.pdf", 0))[0]
    assert place_of(page, "Word0") == pytest.approx(ink(page), abs=0.01)
    assert "MMMM" in page.get_textpage().get_text_range()
