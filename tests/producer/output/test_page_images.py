"""Pages of documents as pictures of their own, and the names of these in exports."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from click.testing import CliRunner
from PIL import Image

from producer.cli import main
from producer.job.manifest import ManifestIndex, write_manifest
from producer.output import overlays
from producer.output.overlays import PageImages
from producer.sources.scan import FoundPage
from tests.producer.records import ok, own_request, write_results
from tests.traced import assert_few_bytes


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A photo, a TIFF of two pages, and a PDF that is gone."""
    pages = [Image.new("RGB", (200, 100), colour) for colour in ("red", "blue")]
    pages[0].save(tmp_path / "photo.png")
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    records = [
        ok(0, "photo.png"),
        ok(1, "scan.tif", page=0),
        ok(2, "scan.tif", page=1),
        ok(3, "gone.pdf", page=0),
        ok(4, "gone.pdf", page=1),
    ]
    own_request(tmp_path / "out", tmp_path)
    write_results(tmp_path / "out", records)
    found = (FoundPage(record.image, (tmp_path / record.image).as_uri(), record.page) for record in records)
    write_manifest(found, tmp_path / "out" / "manifest.jsonl")
    return tmp_path / "out"


def export(out: Path, kind: str, exit_code: int = 1) -> str:
    done = CliRunner().invoke(main, ["export", str(out), "--format", kind, "--page-images"])
    assert done.exit_code == exit_code, done.output  # 1: there is no picture of one
    return done.output


@pytest.mark.slow
def test_coco_names_the_pictures(out: Path) -> None:
    told = export(out, "coco")
    names = [image["file_name"] for image in json.loads((out / "export-coco.json").read_text())["images"]]
    assert names == ["photo.png", "scan_p0001.jpg", "scan_p0002.jpg", "gone.pdf", "gone.pdf"]
    with Image.open(out / "page-images" / "scan_p0002.jpg") as picture:
        assert picture.size == (200, 100)
        red, green, blue = picture.getpixel((100, 50))  # type: ignore[misc]
        assert (red < 30, green < 30, blue > 220) == (True, True, True)
    assert sorted(path.name for path in (out / "page-images").iterdir()) == ["scan_p0001.jpg", "scan_p0002.jpg"]
    assert told.count("no page image: gone.pdf, page ") == 2


@pytest.mark.slow
def test_names_that_many_disks_take_for_one(tmp_path: Path) -> None:
    """Before: on SMB, exFAT, NTFS and Macs a page of `scan.tif` took the place of that of `SCAN.tif`."""
    names = ["SCAN.tif", "scan.tif", "Scan.tiff"]
    for name in names:
        Image.new("RGB", (200, 100)).save(tmp_path / name, save_all=True, append_images=[Image.new("RGB", (200, 100))])
    records = [ok(index, names[index // 2], page=index % 2) for index in range(6)]
    own_request(tmp_path / "out", tmp_path)
    write_results(tmp_path / "out", records)
    found = (FoundPage(record.image, (tmp_path / record.image).as_uri(), record.page) for record in records)
    write_manifest(found, tmp_path / "out" / "manifest.jsonl")
    export(tmp_path / "out", "coco", 0)
    made = {path.name.lower() for path in (tmp_path / "out" / "page-images").iterdir()}
    assert len(made) == 6


def test_names_say_nothing_to_the_terminal(tmp_path: Path) -> None:
    name = "\x1b]0;x\x07\u202efdp.pdf"
    own_request(tmp_path / "out", tmp_path)
    write_results(tmp_path / "out", [ok(0, name)])
    write_manifest([FoundPage(name, (tmp_path / name).as_uri(), 0)], tmp_path / "out" / "manifest.jsonl")
    assert r"no page image: \x1b]0;x\x07\x202efdp.pdf, page 1" in export(tmp_path / "out", "coco")


@pytest.mark.slow
def test_other_formats_too(out: Path) -> None:
    export(out, "labelstudio")
    tasks = json.loads((out / "export-labelstudio.json").read_text())
    paths = [unquote(task["data"]["image"].partition("=")[2]) for task in tasks]
    assert f"/{paths[2]}" == str(out / "page-images" / "scan_p0002.jpg")
    export(out, "icdar")
    assert {path.name for path in (out / "export-icdar").glob("scan*")} == {"scan_p0001.txt", "scan_p0002.txt"}
    export(out, "yolo-obb")
    assert (out / "export-yolo-obb" / "scan_p0002.txt").is_file()  # beside images/scan_p0002.jpg, as YOLO wants it


@pytest.mark.slow
def test_pages_are_a_byte_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: the name of each, twice, 650 bytes a page, and a line about each that could not be drawn."""
    count = 2_000
    names = [("A.pdf", "a.pdf", "a.tif", "b/a.tif")[index % 4] for index in range(count)]
    records = [ok(index, name, page=index // 4, boxes=[]) for index, name in enumerate(names)]
    write_manifest((FoundPage(r.image, "file:///x", r.page) for r in records), tmp_path / "manifest.jsonl")

    class Drawn:
        def __init__(self, **_: Any) -> None: ...
        def __enter__(self) -> Drawn:
            return self

        def __exit__(self, *_: object) -> None: ...
        def draw(self, uri: str, page: int, *_: object, **__: object) -> SimpleNamespace:
            return SimpleNamespace(ok=page % 2, width=200, height=100, error="x" * 200)

    told: list[int] = []
    pictures: list[PageImages] = []

    def tell(line: str) -> None:
        told[-1] += 1

    monkeypatch.setattr(overlays, "OverlayProcess", Drawn)
    with ManifestIndex(tmp_path / "manifest.jsonl") as manifest:

        def write(number: int) -> None:
            (out := tmp_path / str(number)).mkdir()
            pictures.append(PageImages(out))
            told.append(0)
            pictures[-1].write(iter(records), manifest, tell)

        assert_few_bytes(write, peak=300_000)
    last, out = pictures[-1], tmp_path / str(len(pictures) - 1)
    assert told[-1] == count // 2 - 2  # of a.tif and b/a.tif the next line is not their second page
    found = [last.renamed(record).image for record in records]
    assert found[4:8] == ["A_p0002.jpg", "a_p0002_5.jpg", "a_p0002_6.jpg", "b/a_p0002.jpg"]
    drawn = [name for name, record in zip(found, records, strict=True) if record.page % 2]
    assert len({name.lower() for name in drawn}) == len(drawn) and found[0] == "A.pdf"
    assert last.path(last.renamed(records[6])) == out / "page-images" / "a_p0002_6.jpg"
    assert last.path(records[0]) is None


def test_no_room_for_the_names() -> None:
    names = overlays._Names()
    names._table.execute("pragma max_page_count = 2")
    with pytest.raises(OSError, match="is full"):
        all(names.add(str(number)) for number in range(10_000))
