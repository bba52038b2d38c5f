"""What others wrote into an output folder may be of any form: a line counts as damaged, a value as missing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from msgspec import structs

from detector.exit_codes import ExitCode
from detector.record import ModelRecord, Seconds, WordRecord
from producer.cli import main
from producer.job.manifest import write_manifest
from producer.job.output_folder import JobRequest, OutputFolder
from producer.job.page_order import PageOrder
from producer.output.ending import Ending, read_job
from producer.output.formats import export_results
from producer.output.layout import plain
from producer.output.report import write_report
from producer.output.summary import write_job_json
from producer.output.totals import summarise
from producer.sources.found_page import FoundPage
from tests.producer.records import BOX, failed, ok, write_results
from worker.messages import ImageRecord, encode

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
    for value in ("x", None, [1], {"a": "b"}, {"a": 10**400}, 1e308, -5, True, 10**400, -(10**400)):
        names = (
            "job",
            "wall_seconds",
            "images_this_run",
            "images_per_second",
            "finished_at",
            "passed_over",
            "settings",
        )
        (tmp_path / "job.json").write_text(json.dumps(dict.fromkeys(names, value)))
        write_report(tmp_path)
        assert "1 image" in (tmp_path / "report.html").read_text()
    (tmp_path / "job.json").write_text('{"job": ' + "9" * 9999 + "}")
    write_report(tmp_path)
    folder, nothing_new = OutputFolder(tmp_path), Ending(1, 1, 0, 0, 1.0, False)
    write_job_json(folder, JobRequest(job="j", sources=[]), nothing_new)
    assert read_job(folder.job_json)["job"] == "j", "before: a run that had nothing left to do ended with a traceback"


@pytest.mark.slow
def test_one_page_far_away(tmp_path: Path) -> None:
    """Its place costs 8 bytes for each page before it, and not twice that."""
    results = write_results(tmp_path, [ok(3_000_000, "far.jpg"), ok(2, "near.jpg")])
    order = PageOrder(results)
    assert [record.image for record in order.records()] == ["near.jpg", "far.jpg"]


FAR = (1e154, -1e308, 1e308, 2e10)


@pytest.mark.parametrize("name", FORMATS)
def test_numbers_beyond_all_pages_spoil_no_export(tmp_path: Path, name: str) -> None:
    """Before: Infinity in JSON, and a traceback of hOCR's, for all pages."""
    word = WordRecord("far", BOX.points, 0.9)
    read = structs.replace(BOX, text="sound", text_score=0.9, words=[word])
    odd = []
    for value in FAR:
        corners = [(value, 0.0), (9.0, -value), (9.0, value), (0.0, 9.0)]
        odd += [
            structs.replace(read, points=corners),
            structs.replace(read, polygon=corners),
            structs.replace(read, score=value),
            structs.replace(read, text_score=value),
            structs.replace(read, angle=value),
            structs.replace(read, words=[structs.replace(word, points=corners)]),
            structs.replace(read, words=[structs.replace(word, score=value)]),
        ]
    records = [ok(index, f"odd-{index}.jpg", boxes=[box]) for index, box in enumerate(odd, 1)]
    # The largest that are taken.
    large = structs.replace(read, points=[(-1e10, -1e10), (1e10, -1e10), (1e10, 1e10), (-1e10, 1e10)], score=2.0)
    write_results(tmp_path, [ok(0, "sound.jpg", boxes=[read, large]), *records])
    told: list[str] = []
    written = export_results(tmp_path, name, tell=told.append)
    files = [written] if written.is_file() else [path for path in written.rglob("*") if path.is_file()]
    shown = "".join(str(path) + path.read_text("utf-8", "replace") for path in files)
    assert "sound" in shown and "odd-" not in shown
    assert "Infinity" not in shown and "NaN" not in shown
    assert f"{len(odd)} lines of" in told[0] and "the first is line 2" in told[0]


def test_sums_stay_numbers(tmp_path: Path) -> None:
    pages = [
        ok(0),
        ok(1, seconds=Seconds(total=1e308)),
        ok(2, peak_rss_mb=1e308),
        structs.replace(ok(3), width=10**30),
        structs.replace(ok(4), height=-1),
    ]
    totals = summarise(write_results(tmp_path, pages))
    assert totals.damaged == 4 and totals.ok == 1


def test_export_says_which_lines_it_could_not_read(tmp_path: Path) -> None:
    tail = b"no record\n" + encode(ok(2)).replace(b'"score":0.91', b'"score":"x"') + b"\n"
    write_results(tmp_path, [ok(0, "sound.jpg")], tail=tail)
    said = CliRunner().invoke(main, ["export", str(tmp_path), "--format", "csv"])
    assert said.exit_code == ExitCode.FAILED
    assert "2 lines of" in said.stderr and "line 2" in said.stderr and "Traceback" not in said.stderr
    assert "sound.jpg" in (tmp_path / "export.csv").read_text()
    write_results(tmp_path, [ok(0, "sound.jpg")])
    assert CliRunner().invoke(main, ["export", str(tmp_path), "--format", "csv"]).exit_code == ExitCode.OK


OBEYED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("name", (*FORMATS, "icdar"))
def test_no_terminal_obeys_an_export(tmp_path: Path, name: str) -> None:
    """Before: `ls` turned names around, and `cat` of a text set the title, or the clipboard; a form feed was a page."""
    evil = "e\x1b]52;c;cm0=\x07\x9b2J\u202egnp\f\x85\u2066\u200fx\x7f"
    word = WordRecord(evil, BOX.points, 0.9)
    read = structs.replace(BOX, text=evil, text_score=0.9, words=[word])
    write_results(tmp_path, [ok(0, f"{evil}.jpg", boxes=[read]), ok(1, "sound.jpg", boxes=[read])])
    written = export_results(tmp_path, name)
    files = [written] if written.is_file() else [path for path in written.rglob("*") if path.is_file()]
    for path in files:
        text = path.read_bytes().decode()
        data = path.name == "names.csv" or name == "csv"  # where a name is looked up: as it is, but for what is obeyed
        assert OBEYED.search(path.name) is None and "\u200f" not in path.name
        found = set(OBEYED.findall(text)) - ({"\u202e", "\u2066"} if data else set())
        assert not found, (path, found)
    values = dict.fromkeys(("job", "finished_at"), evil)
    (tmp_path / "job.json").write_bytes(msgspec.json.encode(values | {"settings": {evil: evil}}))
    model = ModelRecord(evil, evil, evil)
    forged = structs.replace(ok(0, evil, flags=[evil], worker=evil), model=model)
    write_results(tmp_path, [forged, failed(1, evil, message=evil)])
    assert OBEYED.findall(write_report(tmp_path).read_text()) == []
    assert plain("\u0645\u200f a\tb\n") == "\u0645\u200f a b ", "honest Arabic"


MANY_BOXES = [structs.replace(BOX, text="a", text_score=0.9)] * 400


@pytest.mark.parametrize(
    ("name", "records"),
    [
        *((name, [ok(0, "a" * 300_000 + ".jpg", boxes=MANY_BOXES)]) for name in (*FORMATS, "icdar")),
        *((name, [ok(0, "n" * 300_000, page=800, boxes=MANY_BOXES[:1])]) for name in FORMATS),
        *((name, [ok(n, f"{n}.pdf", page=900 - n, boxes=MANY_BOXES[:1]) for n in range(200)]) for name in FORMATS),
        ("csv", [structs.replace(failed(0, message="m" * 300_000), boxes=MANY_BOXES)]),
    ],
)
def test_a_line_makes_no_more_than_some_times_its_size(
    tmp_path: Path, name: str, records: list[ImageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: 120 MB of CSV and 240 MB of hOCR of these 300 KB; 3 MB were 1.4 TB, and 300 GB."""
    for module in ("documents", "hocr"):
        monkeypatch.setattr(f"producer.output.{module}.MOST_PAGES_OF_A_FILE", 1000)
    results, told = write_results(tmp_path, records), list[str]()
    written = export_results(tmp_path, name, tell=told.append)
    files = [written] if written.is_file() else [path for path in written.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10 * results.stat().st_size + 300_000
    assert len(told) in (0, len(records) - 1)
    if len(records) > 1 and name in ("txt", "hocr"):
        assert "899 that have no record" in told[0]  # 900 fit


def test_pages_without_a_record_are_as_many_as_the_manifest_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an unfinished job of books any number is missing; a row of long names stays as it is up to 4,096 bytes."""
    monkeypatch.setattr("producer.output.documents.MOST_PAGES_OF_A_FILE", 0)
    for name in ("a.pdf", "b.pdf"):
        (tmp_path / name).touch()
    pages = (FoundPage(name, (tmp_path / name).as_uri(), page) for name in ("a.pdf", "b.pdf") for page in range(500))
    write_manifest(pages, tmp_path / "manifest.jsonl")
    last = [ok(at, name, page=499, boxes=MANY_BOXES[:1]) for at, name in ((499, "a.pdf"), (999, "b.pdf"))]
    write_results(tmp_path, last)
    monkeypatch.setattr("producer.output.hocr.MOST_PAGES_OF_A_FILE", 1000)
    told: list[str] = []
    folder = export_results(tmp_path, "hocr", tell=told.append)
    assert [(folder / f"{name}.hocr").read_text().count('ocr_page"') for name in "ab"] == [500, 500] and not told
