"""Documents out of records with text: in page order, well-formed, and with the text where it was read."""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pikepdf
import pypdfium2
import pytest
from click.testing import CliRunner
from msgspec import structs
from PIL import Image

from detector.record import WordRecord
from producer.cli import main
from producer.errors import NothingToDoError
from producer.job.manifest import write_manifest
from producer.output.documents import FORMATS
from producer.output.formats import export_results
from producer.output.pagexml import NAMESPACE as PAGE
from producer.sources.scan import FoundPage
from tests.producer.records import BOX, failed, ok, own_request, pdf, write_results
from worker.messages import BoxRecord, ImageRecord, encode

ALTO = "{http://www.loc.gov/standards/alto/ns-v4#}"
XHTML = "{http://www.w3.org/1999/xhtml}"


def line(text: str, left: float, top: float, order: int, width: float = 80, height: float = 10) -> BoxRecord:
    """A read box; its words share its width by their letters."""
    words, start = [], 0
    for word in text.split():
        first, last = (left + width * end / len(text) for end in (start, start + len(word)))
        corners = [(first, top), (last, top), (last, top + height), (first, top + height)]
        words.append(WordRecord(word, corners, 0.9))
        start += len(word) + 1
    corners = [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]
    return BoxRecord(corners, 0.95, text, 0.9, words, 0.0, order)


def picture(path: Path, kind: str, **options: object) -> bytes:
    """A photo of 200 x 100; its bytes."""
    noise = Image.effect_noise((200, 100), 60).convert("RGB")
    noise.save(path, kind, **options)
    return path.read_bytes()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A job of a photo, a two-page PDF whose second page is turned, and a failed file, finished in another order."""
    picture(tmp_path / "photo.jpg", "JPEG", quality=80)
    with pikepdf.open(io.BytesIO(pdf(2))) as document:
        document.pages[1].Rotate = 90
        document.save(tmp_path / "doc.pdf")
    first, second = line("one & <two>", 10, 10, 0), line("茶館 three", 10, 30, 1)
    records = [
        ok(2, "doc.pdf", page=1, boxes=[line("turned page", 20, 40, 0)]),
        failed(3, "broken.jpg"),
        ok(1, "doc.pdf", page=0, boxes=[line("first page", 100, 50, 0)]),
        ok(0, "photo.jpg", boxes=[second, first]),
    ]
    folder = tmp_path / "out"
    own_request(folder, tmp_path)
    write_results(folder, records, b'{"torn')
    names = {0: "photo.jpg", 1: "doc.pdf", 2: "doc.pdf", 3: "broken.jpg"}
    ordered = sorted(records, key=lambda record: record.index)
    write_manifest(
        (FoundPage(r.image, (tmp_path / names[r.index]).as_uri(), r.page) for r in ordered), folder / "manifest.jsonl"
    )
    return folder


def test_txt(out: Path) -> None:
    folder = export_results(out, "txt")
    assert {path.name for path in folder.iterdir()} == {"photo.txt", "doc.txt", "names.csv"}
    assert (folder / "photo.txt").read_text() == "one & <two>\n茶館 three\n"
    assert (folder / "doc.txt").read_text() == "first page\n\fturned page\n"


def test_hocr(out: Path) -> None:
    tree = ElementTree.parse(export_results(out, "hocr") / "doc.hocr")
    pages = [item for item in tree.iter(f"{XHTML}div") if item.get("class") == "ocr_page"]
    assert [re.search(r"ppageno (\d)", page.get("title", ""))[1] for page in pages] == ["0", "1"]  # type: ignore[index]
    words = [item for item in pages[1].iter(f"{XHTML}span") if item.get("class") == "ocrx_word"]
    assert [word.text for word in words] == ["turned", "page"]
    assert words[0].get("title") == "bbox 20 40 64 50; x_wconf 90"
    ids = [item.get("id") for item in tree.iter() if item.get("id")]
    assert len(ids) == len(set(ids))
    photo = (export_results(out, "hocr") / "photo.hocr").read_text()
    assert ">one</span>" in photo
    assert "&lt;two&gt;" in photo


def test_the_place_of_pages_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: page 3 stood where page 2 was to be, and hOCR had no page for it. The first has no record, 4 failed."""
    lost = [structs.replace(failed(index, "doc.pdf"), page=page) for index, page in ((0, 0), (2, 2), (5, 5))]
    fine = [ok(index, "doc.pdf", page=index, boxes=[line(f"page {index}", 5, 5, 0)]) for index in (1, 4)]
    far = [ok(6, "far.pdf", page=1 << 40, boxes=[line("far", 5, 5, 0)])]  # a forged record
    write_results(tmp_path, [*lost, *fine, ok(7, "photo.jpg", boxes=[line("photo", 5, 5, 0)]), *far])
    monkeypatch.setattr("producer.output.documents.MOST_PAGES_OF_A_FILE", 1000)
    monkeypatch.setattr("producer.output.hocr.MOST_PAGES_OF_A_FILE", 1000)
    folder = export_results(tmp_path, "txt")
    assert (folder / "doc.txt").read_text().split("\f") == ["", "page 1\n", "", "", "page 4\n", ""]
    assert (folder / "photo.txt").read_text() == "photo\n"
    assert (folder / "far.txt").stat().st_size < 2_000
    rows = list(csv.DictReader((folder / "names.csv").read_text().splitlines()))
    assert [(row["file"], row["page"], row["index"]) for row in rows][::2] == [
        ("doc.txt", "1", "1"),
        ("photo.txt", "0", "7"),
    ]
    folder = export_results(tmp_path, "hocr")
    tree = ElementTree.parse(folder / "doc.hocr")
    pages = [page for page in tree.iter(f"{XHTML}div") if page.get("class") == "ocr_page"]
    assert [page.get("id") for page in pages] == [f"page_{number}" for number in range(1, 7)]
    assert [re.search(r"ppageno (\d)", page.get("title", ""))[1] for page in pages] == list("012345")  # type: ignore[index]
    assert ["".join(page.itertext()).split() for page in pages] == [[], ["page", "1"], [], [], ["page", "4"], []]
    assert (folder / "far.hocr").stat().st_size < 200_000


def test_alto(out: Path) -> None:
    folder = export_results(out, "alto")
    assert sorted(path.name for path in folder.iterdir()) == [
        "doc_p0001.xml",
        "doc_p0002.xml",
        "names.csv",
        "photo.xml",
    ]
    tree = ElementTree.parse(folder / "photo.xml")
    strings = list(tree.iter(f"{ALTO}String"))
    assert [item.get("CONTENT") for item in strings] == ["one", "&", "<two>", "茶館", "three"]
    assert (strings[0].get("HPOS"), strings[0].get("VPOS"), strings[0].get("HEIGHT")) == ("10", "10", "10")
    page = next(tree.iter(f"{ALTO}Page"))
    assert (page.get("WIDTH"), page.get("HEIGHT")) == ("200", "100")


def test_pagexml_with_text(out: Path) -> None:
    tree = ElementTree.parse(export_results(out, "pagexml") / "photo.xml")
    lines = list(tree.iter(f"{{{PAGE}}}TextLine"))
    texts = [item.find(f"{{{PAGE}}}TextEquiv/{{{PAGE}}}Unicode").text for item in lines]  # type: ignore[union-attr]
    assert texts == ["one & <two>", "茶館 three"]
    assert len(list(tree.iter(f"{{{PAGE}}}Word"))) == 5
    assert next(tree.iter(f"{{{PAGE}}}RegionRefIndexed")).get("regionRef") == "r1"


@pytest.mark.slow
def test_pdf(out: Path) -> None:
    folder = export_results(out, "pdf")
    with pikepdf.open(folder / "photo.pdf") as photo:
        assert photo.check_pdf_syntax() == []
        (image,) = photo.pages[0].get_images().values()
        assert image.read_raw_bytes() == (out.parent / "photo.jpg").read_bytes()
    found = pypdfium2.PdfDocument(folder / "photo.pdf")[0].get_textpage().get_text_range()
    assert found.split() == ["one", "&", "<two>", "茶館", "three"]
    document = pypdfium2.PdfDocument(folder / "doc.pdf")
    assert [page.get_textpage().get_text_range().split() for page in document] == [
        ["first", "page"],
        ["turned", "page"],
    ]


@pytest.mark.slow
def test_text_of_the_pdf_lies_on_the_words(out: Path) -> None:
    document = pypdfium2.PdfDocument(export_results(out, "pdf") / "doc.pdf")
    for number, word, (left, top, right, bottom) in (
        (0, "first", (100, 50, 140, 60)),
        (1, "turned", (20, 40, 63.6, 50)),
    ):
        page = document[number]
        width, height = page.get_size()
        text = page.get_textpage()
        start, count = text.search(word).get_next()
        boxes = [text.get_charbox(place, loose=True) for place in range(start, start + count)]
        x0, y0, x1, y1 = (
            pick(values) for pick, values in zip((min, min, max, max), zip(*boxes, strict=True), strict=True)
        )
        if number == 1:  # turned clockwise: the page's x is the paper's y
            found = (y0 / width * 200, x0 / height * 100, y1 / width * 200, x1 / height * 100)
        else:
            found = (x0 / width * 200, 100 - y1 / height * 100, x1 / width * 200, 100 - y0 / height * 100)
        assert found == pytest.approx((left, top, right, bottom), abs=1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "mode"), [("a.png", "PNG", "RGBA"), ("b.webp", "WEBP", "RGB"), ("c.tif", "TIFF", "1")]
)
def test_pdf_of_other_pictures(tmp_path: Path, name: str, kind: str, mode: str) -> None:
    Image.effect_noise((200, 100), 60).convert(mode).save(tmp_path / name, kind)
    own_request(tmp_path / "out", tmp_path)
    write_results(tmp_path / "out", [ok(0, name, boxes=[line("words here", 10, 10, 0)])])
    write_manifest([FoundPage(name, (tmp_path / name).as_uri(), 0)], tmp_path / "out" / "manifest.jsonl")
    made = export_results(tmp_path / "out", "pdf") / f"{Path(name).stem}.pdf"
    assert pypdfium2.PdfDocument(made)[0].get_textpage().get_text_range().split() == ["words", "here"]


@pytest.mark.slow
def test_what_cannot_be_a_pdf_is_said(out: Path) -> None:
    (out.parent / "photo.jpg").write_bytes(b"no picture")
    done = CliRunner().invoke(main, ["export", str(out), "--format", "pdf"])
    assert done.exit_code == 1
    assert "left out: photo.jpg" in done.output
    assert not (out / "export-pdf" / "photo.pdf").exists()
    assert (out / "export-pdf" / "doc.pdf").exists()


@pytest.mark.slow
def test_crops(out: Path) -> None:
    folder = export_results(out, "crops")
    labels = dict(row.split("\t") for row in (folder / "rec_gt.txt").read_text().splitlines())
    assert list(labels.values())[:2] == ["one & <two>", "茶館 three"]
    assert len(labels) == 4
    assert Image.open(folder / next(iter(labels))).size == (80, 10)
    assert (folder / "gt.txt").read_text().splitlines()[0].endswith(', "one & <two>"')


@pytest.mark.slow
def test_crops_of_names_that_are_too_long_together(tmp_path: Path) -> None:
    """Before: "File name too long", and the pages left out."""
    names = [f"{'f' * 120}/{'g' * 120}/{letter}.jpg" for letter in "ab"] + ["ä" * 90 + "/" + "ö" * 90 + ".jpg", "c.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(tmp_path / name, "JPEG")
    own_request(tmp_path / "out", tmp_path)
    write_results(tmp_path / "out", [ok(index, name) for index, name in enumerate(names)])
    write_manifest((FoundPage(name, (tmp_path / name).as_uri(), 0) for name in names), tmp_path / "out/manifest.jsonl")
    told: list[str] = []
    folder = export_results(tmp_path / "out", "crops", tell=told.append)
    assert not told
    rows = list(csv.DictReader((folder / "names.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == names and rows[-1]["file"] == "images/c_3_0000.jpg"
    assert {folder / row["file"] for row in rows} == set((folder / "images").iterdir())


@pytest.mark.slow
def test_crops_of_pages_that_were_not_read_are_in_the_order_of_the_record(out: Path) -> None:
    record = ok(0, "a.png", boxes=[BoxRecord(line("", 10, y, 0, wide).points, 0.9) for y, wide in ((60, 40), (10, 50))])
    write_results(out, [record])
    folder = export_results(out, "crops")
    assert [Image.open(path).size for path in sorted((folder / "images").iterdir())] == [(40, 10), (50, 10)]


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_an_output_folder_whose_name_is_no_utf8(out: Path, kind: str) -> None:
    """Before: `crops` ended in a traceback."""
    odd = out.rename(out.with_name(os.fsdecode(b"o%20\xe9 ut")))
    made = export_results(odd, kind)
    assert made.parent == odd and len(list(made.rglob("*.*"))) > 1


def test_yolo(out: Path) -> None:
    folder = export_results(out, "yolo-obb")
    values = (folder / "doc_p0001.txt").read_text().split()
    assert values[0] == "0"
    assert list(map(float, values[1:])) == pytest.approx([0.5, 0.5, 0.9, 0.5, 0.9, 0.6, 0.5, 0.6])
    assert "text" in (folder / "data.yaml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_again_replaces_and_leaves_nothing_behind(out: Path, kind: str) -> None:
    target = export_results(out, kind)
    before = sorted(path.name for path in out.rglob("*"))
    assert export_results(out, kind) == target
    assert sorted(path.name for path in out.rglob("*")) == before


@pytest.mark.parametrize("kind", ["txt", "hocr", "alto", "pdf"])
def test_what_was_not_read_has_no_text(tmp_path: Path, kind: str) -> None:
    write_results(tmp_path, [ok(0, boxes=[BOX])])
    with pytest.raises(NothingToDoError, match="--read"):
        export_results(tmp_path, kind)


def test_records_without_reading_are_as_they_were() -> None:
    written = encode(ok(0))
    assert b'"read"' not in written
    assert b'"boxes":[{"points":[[10.0,20.0],[110.4,22.0],[110.0,60.6],[9.6,58.0]],"score":0.91}]' in written
    assert isinstance(ok(0), ImageRecord)
