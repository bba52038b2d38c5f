"""Boxes with an outline: formats of polygons have it, formats of four corners have these."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from producer.output.formats import export_results
from producer.output.pagexml import NAMESPACE
from tests.producer.records import BOX, ok, write_results
from worker.detection import at_original_size
from worker.messages import BoxRecord, ImageRecord, Original, encode

CORNERS = [(10.0, 20.0), (110.0, 20.0), (110.0, 60.0), (10.0, 60.0)]
BENT = [(10.0, 40.0), (60.0, 20.0), (110.0, 40.0), (110.0, 60.0), (60.0, 40.0), (10.0, 60.0)]
FLAT = [10, 40, 60, 20, 110, 40, 110, 60, 60, 40, 10, 60]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_results(tmp_path, [ok(0, boxes=[BoxRecord(CORNERS, 0.9, polygon=BENT), BOX])])
    return tmp_path


def test_coco(out: Path) -> None:
    bent, straight = json.loads(export_results(out, "coco").read_text())["annotations"]
    assert bent["segmentation"] == [FLAT]
    assert bent["area"] == 2000
    assert bent["bbox"] == [10, 20, 100, 40]
    assert len(straight["segmentation"][0]) == 8


def test_icdar_has_as_many_points_as_there_are(out: Path) -> None:
    (page,) = export_results(out, "icdar").glob("*.txt")
    bent, straight = page.read_text().splitlines()
    assert list(map(int, bent.split(","))) == FLAT
    assert len(straight.split(",")) == 8


def test_pagexml(out: Path) -> None:
    (page,) = export_results(out, "pagexml").glob("*.xml")
    lines = ElementTree.parse(page).iter(f"{{{NAMESPACE}}}TextLine")
    coords = [line.find(f"{{{NAMESPACE}}}Coords").get("points") for line in lines]  # type: ignore[union-attr]
    assert coords[0] == "10,40 60,20 110,40 110,60 60,40 10,60"
    assert len(coords[1].split()) == 4  # type: ignore[union-attr]


def test_labelstudio(out: Path) -> None:
    (task,) = json.loads(export_results(out, "labelstudio").read_text())
    points = task["predictions"][0]["result"][0]["value"]["points"]
    assert points[:2] == [[5, 40], [30, 20]]  # percent of 200 x 100
    assert len(points) == 6


def test_four_corners_where_a_format_knows_no_more(out: Path) -> None:
    row = export_results(out, "csv").read_text().splitlines()[1]
    assert "10.0,20.0,110.0,20.0,110.0,60.0,10.0,60.0" in row
    (label,) = (path for path in export_results(out, "yolo-obb").glob("*.txt"))
    assert len(label.read_text().splitlines()[0].split()) == 9


def test_a_record_keeps_its_polygon_on_the_wire() -> None:
    import msgspec

    record = ok(0, boxes=[BoxRecord(CORNERS, 0.9, polygon=BENT)])
    assert msgspec.json.decode(encode(record), type=ImageRecord) == record
    assert b"polygon" not in encode(ok(0))


def test_pages_that_travelled_smaller_have_polygons_of_the_original_size() -> None:
    from detector.postprocess import Box
    from detector.predictor import Detection

    box = Box(tuple(CORNERS), 0.9, tuple(BENT))
    small = Detection(200, 100, [box, Box(tuple(CORNERS), 0.8)], (100, 200), (), {})
    bent, plain = at_original_size(small, Original(400, 300)).boxes
    assert bent.polygon == tuple((2 * x, 3 * y) for x, y in BENT)
    assert plain.polygon is None


def test_pages_that_travelled_smaller_keep_the_share_that_was_read() -> None:
    from detector.predictor import Detection

    small = Detection(200, 100, [], (100, 200), (), {})
    assert at_original_size(small, Original(400, 300)).share is None
    assert at_original_size(small, Original(400, 300, ("damaged",), 0.95)).share == 0.95
