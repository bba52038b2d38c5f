"""Our documents before the judges of their formats: hocr-spec, PAGE's schema, rules of ALTO, poppler, qpdf."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.sax.saxutils import unescape

import pikepdf
import pytest
from msgspec import structs
from PIL import Image

from detector.record import WordRecord
from producer.job.manifest import write_manifest
from producer.output.formats import export_results
from producer.sources.scan import FoundPage
from tests.document_checks import (
    alto_rules,
    hocr_problems,
    overlap,
    page_schema,
    pdf_text,
    pdf_words,
    qpdf_problems,
    schema_problems,
)
from tests.producer.output.test_documents import line, picture
from tests.producer.records import failed, ok, own_request, write_results
from worker.messages import BoxRecord

WIDTH, HEIGHT = 200, 100  # of every record
UNREAD = BoxRecord([(5.0, 80.0), (60.0, 80.0), (60.0, 90.0), (5.0, 90.0)], 0.6, "", 0.0, [], 0.0, 9)
ODD = "\x0c\x00odd"
NAME = "a; bbox 0 0 1 1; \"x\" ppageno 7 & 'y'; .jpg"


def turned(box: BoxRecord, degrees: float, about: tuple[float, float]) -> BoxRecord:
    """The box and its words, turned."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def turn(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        moved = [(x - about[0], y - about[1]) for x, y in points]
        return [(about[0] + x * cos - y * sin, about[1] + x * sin + y * cos) for x, y in moved]

    words = [WordRecord(word.text, turn(word.points), word.score) for word in box.words or ()]
    return BoxRecord(turn(box.points), box.score, box.text, box.text_score, words, degrees, box.order)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A photo with all kinds of lines, pages of a scan (JPEG in PDF) upright and turned, and a page with nothing."""
    picture(tmp_path / "photo.jpg", "JPEG", quality=80)
    picture(tmp_path / "empty.png", "PNG")
    Image.open(tmp_path / "photo.jpg").save(tmp_path / "scan.pdf", quality=80)
    with pikepdf.open(tmp_path / "scan.pdf", allow_overwriting_input=True) as scan:
        scan.pages.append(scan.pages[0])
        scan.pages[1].Rotate = 180
        scan.save()
    odd = BoxRecord(UNREAD.points, 0.8, ODD, 0.5, [WordRecord(ODD, UNREAD.points, 0.5)], 0.0, 3)
    lines = [line("one & <two>", 10, 10, 0), line("茶館 three", 10, 30, 1)]
    slanted = turned(line("slanted words here", 30, 45, 2, 120, 12), 3, (90, 50))
    downwards = turned(line("down", 150, 50, 3, 40, 10), 90, (180, 50))
    records = [
        ok(0, "photo.jpg", boxes=[*lines, slanted, downwards]),
        ok(1, "empty.png", boxes=[]),
        ok(2, "scan.pdf", page=0, boxes=[line("first page", 20, 20, 0), UNREAD]),
        ok(3, "scan.pdf", page=1, boxes=[line("upside down", 100, 60, 0)]),
        ok(4, "odd.jpg", boxes=[odd]),
    ]
    picture(tmp_path / "odd.jpg", "JPEG")
    own_request(tmp_path / "out", tmp_path)
    write_results(tmp_path / "out", records)
    pages = (FoundPage(record.image, (tmp_path / record.image).as_uri(), record.page) for record in records)
    write_manifest(pages, tmp_path / "out" / "manifest.jsonl")
    return tmp_path / "out"


def test_hocr(out: Path) -> None:
    files = sorted(export_results(out, "hocr").glob("*.hocr"))
    assert len(files) == 4
    write_results(out / "odd", [structs.replace(failed(0, NAME), page=0), ok(1, NAME, page=1, boxes=[])])
    (named,) = export_results(out / "odd", "hocr").glob("*.hocr")
    titles = re.findall("ocr_page.* title=([\"'])(.*)\\1>", named.read_text())
    assert [unescape(title, {"&quot;": '"'}) for _, title in titles] == [
        f'bbox 0 0 {size}; ppageno {page}; image "{NAME.replace(";", "%3B").replace(chr(34), "%22")}"'
        for page, size in enumerate(("0 0", "200 100"))
    ]
    files.append(named)
    assert {file.name: found for file in files if (found := hocr_problems(file))} == {}
    text = files[0].read_text().replace("bbox", "box")
    files[0].write_text(text)
    assert hocr_problems(files[0])  # it does look


def test_pagexml(out: Path) -> None:
    files, schema = sorted(export_results(out, "pagexml").glob("*.xml")), page_schema()
    assert len(files) == 5
    assert [problem for file in files for problem in schema_problems(file, schema)] == []
    files[-1].write_text(files[-1].read_text().replace(' id="l1"', ""))
    assert schema_problems(files[-1], schema)


def test_alto(out: Path) -> None:
    files, rules = sorted(export_results(out, "alto").glob("*.xml")), alto_rules()
    assert len(files) == 5
    assert [problem for file in files for problem in schema_problems(file, rules)] == []
    files[-1].write_text(files[-1].read_text().replace("HPOS", "XPOS"))
    assert schema_problems(files[-1], rules)


def test_poppler_finds_the_words_where_they_are(out: Path) -> None:
    folder = export_results(out, "pdf")
    everything = ["&", "<two>", "down", "here", "one", "slanted", "three", "words", "茶館"]
    assert sorted(pdf_text(folder / "photo.pdf").split()) == everything
    (photo,) = pdf_words(folder / "photo.pdf")
    first, turned_page = pdf_words(folder / "scan.pdf")
    assert [word.text for word in first] == ["first", "page"]
    assert [word.text for word in turned_page] == ["upside", "down"]
    photo_words = {word.text: word for word in photo}
    pairs = [(photo_words[word.text], word) for box in ok_boxes(out, 0) for word in box.words or ()]
    assert len(pairs) == len(everything)
    pairs += zip(first, ok_boxes(out, 2)[0].words or (), strict=True)
    pairs += zip(turned_page, ok_boxes(out, 3)[0].words or (), strict=True)
    for found, word in pairs:
        xs, ys = zip(*word.points, strict=True)
        share = overlap(found, min(xs) / WIDTH, min(ys) / HEIGHT, max(xs) / WIDTH, max(ys) / HEIGHT)
        assert found.text == word.text
        assert share >= (0.7 if word.text in ("slanted", "words", "here") else 0.95), (found, word)


def ok_boxes(out: Path, index: int) -> list[BoxRecord]:
    from producer.job.results_file import iter_records

    return next(record.boxes for record in iter_records(out / "results.jsonl") if record.index == index)


def test_qpdf_finds_nothing_wrong_and_images_are_the_sources_bytes(out: Path) -> None:
    folder = export_results(out, "pdf")
    made = sorted(folder.glob("*.pdf"))
    assert [file.name for file in made] == ["empty.pdf", "odd.pdf", "photo.pdf", "scan.pdf"]
    assert [qpdf_problems(file) for file in made] == [""] * 4
    with pikepdf.open(folder / "photo.pdf") as photo:
        (image,) = photo.pages[0].get_images().values()
        assert image.read_raw_bytes() == (out.parent / "photo.jpg").read_bytes()
    with pikepdf.open(folder / "scan.pdf") as scan, pikepdf.open(out.parent / "scan.pdf") as source:
        (copied,), (original,) = (file.pages[0].get_images().values() for file in (scan, source))
        assert copied.read_raw_bytes() == original.read_raw_bytes()
        assert copied.get("/Filter") == original.get("/Filter") == "/DCTDecode"
