"""Exports hold what the records say, in the form their formats demand."""

from __future__ import annotations

import csv
import json
import re
import tracemalloc
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import msgspec
import pytest
from click.testing import CliRunner
from msgspec import structs

from detector.errors import printable_json
from detector.evaluation.annotations import read_annotations
from producer.cli import main
from producer.job.manifest import write_manifest
from producer.job.results_file import iter_records
from producer.new_folder import new_folder
from producer.output import documents
from producer.output.formats import (
    FORMATS,
    UnknownFormatError,
    export_results,
    labelstudio_prediction,
    polygon_area,
)
from producer.output.pagexml import NAMESPACE
from producer.sources.scan import FoundPage
from tests.producer.records import BOX, failed, ok, write_results
from worker.messages import BoxRecord

SECOND = BoxRecord(points=[(-3.0, 90.0), (50.0, 90.0), (50.0, 100.4), (0.0, 100.0)], score=0.5)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A job with sub folders, colliding names, a document, a page without text, and a failed one; in any order."""
    folder = tmp_path / "out"
    records = [
        ok(1, "sub/a.png"),
        ok(0, "sub/a.jpg", boxes=(BOX, SECOND)),
        ok(2, "sub/a.webp", boxes=()),
        failed(3, "broken.jpg"),
        ok(4, "doc.pdf", page=0),
        ok(5, "doc.pdf", page=1),
        ok(6, 'new\nline\x0b "<&>茶.jpg'),
    ]
    write_results(folder, records, b'{"torn')
    ordered = sorted(records, key=lambda record: record.index)
    found = (FoundPage(r.image, f"file:///data/{r.index}%20x.jpg", r.page) for r in ordered)
    write_manifest(found, folder / "manifest.jsonl")
    return folder


def test_icdar(out: Path) -> None:
    folder = export_results(out, "icdar")
    assert folder == out / "export-icdar"
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*.txt")}
    assert sorted(files) == [
        "doc_p0001.txt",
        "doc_p0002.txt",
        "new_line_ __&_茶.txt",
        "sub/a.png.txt",
        "sub/a.txt",
        "sub/a.webp.txt",
    ]
    assert files["sub/a.txt"].read_text() == "10,20,110,22,110,61,10,58\n-3,90,50,90,50,100,0,100\n"
    assert files["sub/a.webp.txt"].read_text() == ""
    region = read_annotations(files["sub/a.png.txt"])[0]  # our own reader takes them
    assert region.points == ((10, 20), (110, 22), (110, 61), (10, 58))
    with (folder / "names.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["image"]: row["file"] for row in rows}["sub/a.png"] == "sub/a.png.txt"
    assert len(rows) == 6


def test_coco(out: Path) -> None:
    data = json.loads(export_results(out, "coco").read_text())
    assert [category["id"] for category in data["categories"]] == [1]
    images = {image["id"]: image for image in data["images"]}
    assert len(images) == len(data["images"]) == 6
    assert images[1] == {"id": 1, "file_name": "sub/a.jpg", "width": 200, "height": 100, "page": 0}
    annotations = data["annotations"]
    assert len({a["id"] for a in annotations}) == len(annotations) == 6
    for annotation in annotations:
        assert annotation["image_id"] in images and annotation["category_id"] == 1 and annotation["iscrowd"] == 0
        (polygon,) = annotation["segmentation"]
        assert len(polygon) == 8
        x, y, width, height = annotation["bbox"]
        assert (x, y) == (min(polygon[::2]), min(polygon[1::2]))
        assert (x + width, y + height) == pytest.approx((max(polygon[::2]), max(polygon[1::2])))
        assert 0 < annotation["area"] <= width * height and 0 <= annotation["score"] <= 1


def test_area() -> None:
    assert polygon_area([(0, 0), (4, 0), (4, 3), (0, 3)]) == 12
    assert polygon_area([(0, 3), (4, 3), (4, 0), (0, 0)]) == 12


def test_labelstudio_holds_no_regions(tmp_path: Path) -> None:
    """Before: all regions of a page at once, 900 MB of a line of 16 MiB; what is written is the same."""
    outline = [(float(x), 7.0) for x in range(20_000)]
    boxes = [structs.replace(BOX, text="\x9b", polygon=outline), *[BOX] * 2_000]
    records = [ok(0, "a\u2028.jpg", boxes=boxes), ok(1, boxes=[]), ok(2)]
    path = write_results(tmp_path, records)
    tracemalloc.start()
    list(iter_records(path))
    read = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    written = export_results(tmp_path, "labelstudio")
    assert tracemalloc.get_traced_memory()[1] < 1.2 * read
    tracemalloc.stop()
    names = [(quote(record.image), record.image) for record in records]
    tasks = [
        {
            "data": {"image": f"/data/local-files/?d={path}", "name": name, "page": 0},
            "predictions": [labelstudio_prediction(record)],
        }
        for record, (path, name) in zip(records, names, strict=True)
    ]
    lines = (printable_json(json.dumps(task, ensure_ascii=False)) for task in tasks)
    assert written.read_text() == "[\n" + ",\n".join(lines) + "\n]\n"


def test_labelstudio(out: Path) -> None:
    path = export_results(out, "labelstudio")
    tasks = json.loads(path.read_text())
    config = ElementTree.fromstring((out / "export-labelstudio-config.xml").read_text())
    control, image = config.find("PolygonLabels"), config.find("Image")
    assert control is not None and image is not None
    labels = {label.get("value") for label in control.iter("Label")}
    assert len(tasks) == 6
    for task in tasks:
        assert task["data"][(image.get("value") or "")[1:]].startswith("/data/local-files/?d=data/")
        (prediction,) = task["predictions"]
        for region in prediction["result"]:
            assert region["from_name"] == control.get("name") and region["to_name"] == image.get("name")
            assert region["type"] == "polygonlabels" and set(region["value"]["polygonlabels"]) <= labels
    first = next(task for task in tasks if task["data"]["name"] == "sub/a.jpg")
    assert first["data"]["image"] == "/data/local-files/?d=data/0%20x.jpg"
    assert first["predictions"][0]["result"][0]["value"]["points"][0] == [5.0, 20.0]  # percent of 200 x 100


def test_page_xml_follows_the_schema(out: Path) -> None:
    folder = export_results(out, "pagexml")
    files = sorted(folder.rglob("*.xml"))
    assert len(files) == 6
    tag = f"{{{NAMESPACE}}}"
    for path in files:
        root = ElementTree.parse(path).getroot()
        assert root.tag == f"{tag}PcGts" and [child.tag for child in root] == [f"{tag}Metadata", f"{tag}Page"]
        assert [child.tag for child in root[0]] == [f"{tag}Creator", f"{tag}Created", f"{tag}LastChange"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", root[0][1].text or "")
        page = root[1]
        width, height = int(page.get("imageWidth", "")), int(page.get("imageHeight", ""))
        assert (width, height) == (200, 100)
        identifiers = [element.get("id") for element in page.iter() if element.get("id")]
        assert len(set(identifiers)) == len(identifiers)
        for region in page:
            assert region.tag == f"{tag}TextRegion" and region[0].tag == f"{tag}Coords"  # Coords come first
            assert all(line.tag == f"{tag}TextLine" and line[0].tag == f"{tag}Coords" for line in region[1:])
        for coords in page.iter(f"{tag}Coords"):
            # PointsType of the schema; our corners are clipped to the page.
            assert re.fullmatch(r"([0-9]+,[0-9]+ )+([0-9]+,[0-9]+)", coords.get("points", ""))
            corners = [tuple(map(int, corner.split(","))) for corner in coords.get("points", "").split()]
            assert len(corners) >= 3 and all(0 <= x <= width and 0 <= y <= height for x, y in corners)
            assert 0 <= float(coords.get("conf", "0")) <= 1
    names = {ElementTree.parse(path).getroot()[1].get("imageFilename") for path in files}
    assert 'new\nline\\x0b "<&>茶.jpg' in names
    assert len(list(ElementTree.parse(folder / "sub" / "a.webp.xml").getroot()[1])) == 0


def test_csv_drops_no_page(out: Path) -> None:
    with export_results(out, "csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 8  # two boxes on one page, one on four, and a row each for no text and for the failure
    failure = next(row for row in rows if row["status"] == "failed")
    assert failure["error"] == "CorruptImage: cut short" and failure["x1"] == ""
    box = next(row for row in rows if row["image"] == "sub/a.jpg")
    assert [box[name] for name in ("score", "x1", "y1", "x2", "y2", "x4", "y4")] == [
        "0.91", "10.0", "20.0", "110.4", "22.0", "9.6", "58.0",
    ]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in documents.FORMATS])
def test_again_replaces_and_leaves_nothing_behind(out: Path, name: str) -> None:
    target = export_results(out, name)
    before = sorted(path.name for path in out.rglob("*"))
    (out / "manifest.jsonl").unlink()  # a collected job may lack it
    assert export_results(out, name) == target
    assert sorted([*(path.name for path in out.rglob("*")), "manifest.jsonl"]) == before


def test_a_folder_of_the_user_is_not_overwritten(out: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    export_results(out, "icdar", mine)
    with pytest.raises(FileExistsError, match="not empty"):
        export_results(out, "icdar", mine)


@pytest.mark.parametrize("name", ["icdar", "yolo-obb"])
def test_a_folder_beside_it_is_not_ours(out: Path, tmp_path: Path, name: str) -> None:
    """Before: NAME.part was removed, whatever it was."""
    notes = tmp_path / "notes.part"
    notes.mkdir()
    (notes / "mine.txt").write_text("mine")
    export_results(out, name, tmp_path / "notes")
    assert (notes / "mine.txt").read_text() == "mine"
    assert not list(tmp_path.glob(".notes*")), "nothing of ours is left"


def test_a_folder_that_was_filled_meanwhile_is_not_removed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(OSError, match="not empty"), new_folder(target, replace=False) as part:
        (part / "ours").touch()
        (target / "mine").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["target", "mine"]


def test_what_a_kill_left_goes_with_the_next(tmp_path: Path) -> None:
    (tmp_path / ".export-pdf.123-0.part" / "a").mkdir(parents=True)
    (tmp_path / ".export-pdfs.123-0.part").mkdir()
    with new_folder(tmp_path / "export-pdf", replace=True) as part:
        (part / "b").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".export-pdfs.123-0.part", "export-pdf"]


@pytest.mark.parametrize("to", [".", "..", "/"])
@pytest.mark.parametrize("name", ["coco", "icdar"])
def test_a_destination_without_a_name(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, name: str
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "file").touch()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(tmp_path.rglob("*"))
    told = CliRunner().invoke(main, ["export", str(out), "--format", name, "--to", to])
    assert told.exit_code == 2, told.output
    assert (
        told.output.startswith("Error: ")
        and "add a name for the export" in told.output
        and told.output.count("\n") == 1
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_errors(out: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownFormatError, match="icdar, coco"):
        export_results(out, "word")
    with pytest.raises(FileNotFoundError):
        export_results(tmp_path, "coco")
    assert list(tmp_path.glob("export*")) == []


@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize(
    "name",
    [
        "=1+1.jpg",
        "+a.jpg",
        "-a.jpg",
        "@a.jpg",
        "\t=a.jpg",
        "a;=cmd|' /C calc'!A0;.jpg",
        "a\t@b.jpg",
        'a;"=1".jpg',
        "＝1",
    ],
)
def test_no_csv_cell_is_a_formula(name: str, delimiter: str, tmp_path: Path) -> None:
    """Before: a picture called =HYPERLINK(...) was a live formula in whoever opened the table.

    Where spreadsheets separate by semicolons, as in most of Europe, so was one called `a;=...`.
    """
    write_results(tmp_path, [ok(0, name), failed(1, name)])
    with export_results(tmp_path, "csv").open(newline="") as stream:
        cells = [cell for row in csv.reader(stream, delimiter=delimiter) for cell in row]
    assert len(cells) > 2 and not [cell for cell in cells if cell.strip('"').startswith(("=", "+", "-", "@", "＝"))]


@pytest.mark.parametrize("format_name", sorted(set(FORMATS) - {"pdf", "crops"}))
def test_names_that_are_in_each_others_way(tmp_path: Path, format_name: str) -> None:
    """Before: one zip with `a.jpg` and `a.jpg/b.jpg` in it ended six exports of its whole job, each time again."""
    folders = ("a.jpg", "a.txt", "a.xml", "a.hocr", "a.alto.xml", "a.jpg/b.txt", "a.jpg/b", "d/" * 1500)
    names = ["a.jpg", *(f"{folder}/b.jpg" for folder in folders)]
    for turn, order in enumerate((names, names[::-1])):
        read = msgspec.structs.replace(BOX, text="read")
        records = [ok(index, name, boxes=[read]) for index, name in enumerate(order)]
        folder = tmp_path / str(turn)
        write_results(folder, records)
        write_manifest((FoundPage(r.image, "file:///data/x.jpg", 0) for r in records), folder / "manifest.jsonl")
        target = export_results(folder, format_name)
        if target.is_dir():
            assert len([path for path in target.rglob("*.*") if path.is_file()]) >= len(names)
