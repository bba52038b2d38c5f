"""What others wrote into an output folder may be of any form: a line counts as damaged, a value as missing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from producer.job.page_order import PageOrder
from producer.output.formats import export_results
from producer.output.report import write_report
from tests.producer.records import BOX, ok, write_results

FORMATS = ("txt", "csv", "hocr", "alto", "pagexml", "coco", "yolo-obb", "labelstudio")
CORNERS = ([], [[1, 1]], [[1, 1]] * 3, [[1, 1]] * 5, [[1, 1, 1]] * 4, None, "abcd")


@pytest.mark.parametrize("name", FORMATS)
def test_boxes_without_four_corners(tmp_path: Path, name: str) -> None:
    read = structs.replace(BOX, text="sound", text_score=0.9)
    lines = []
    for index, corners in enumerate(CORNERS, 1):
        record = msgspec.to_builtins(ok(index, f"odd-{index}.jpg", boxes=[read]))
        record["boxes"][0]["points"] = corners
        lines.append(msgspec.json.encode(record) + b"\n")
    write_results(tmp_path, [ok(0, "sound.jpg", boxes=[read])], tail=b"".join(lines))
    written = export_results(tmp_path, name)
    files = [written] if written.is_file() else [path for path in written.rglob("*") if path.is_file()]
    shown = "".join(str(path) + path.read_text("utf-8", "replace") for path in files)
    assert "sound" in shown and "odd-" not in shown


def test_a_job_json_of_any_form(tmp_path: Path) -> None:
    write_results(tmp_path, [ok(0)])
    for value in ("x", None, [1], {"a": "b"}, 1e308, -5, True):
        names = (
            "job",
            "wall_seconds",
            "images_this_run",
            "images_per_second",
            "finished_at",
            "passed_over",
            "settings",
        )
        (tmp_path / "job.json").write_bytes(msgspec.json.encode(dict.fromkeys(names, value)))
        write_report(tmp_path)
        assert "1 image" in (tmp_path / "report.html").read_text()


def test_one_page_far_away(tmp_path: Path) -> None:
    """Its place costs 8 bytes for each page before it, and not twice that."""
    results = write_results(tmp_path, [ok(3_000_000, "far.jpg"), ok(2, "near.jpg")])
    order = PageOrder(results)
    assert [record.image for record in order.records()] == ["near.jpg", "far.jpg"]
