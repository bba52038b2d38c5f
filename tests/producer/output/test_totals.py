"""Results are read whatever a crash left, and added up without keeping them."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from rich.console import Console

from producer.job import results_file
from producer.job.page_order import PageOrder
from producer.job.results_file import iter_records, placed_records, read_lines, truncate_torn_line
from producer.output.formats import FORMATS, export_results
from producer.output.report import write_report
from producer.output.terminal import print_summary
from producer.output.totals import FAILURES_KEPT, LONGEST_SAID, MOST_KEYS, SECONDS_EDGES, Histogram, summarise
from tests.producer.records import BOX, failed, ok, write_results
from worker.messages import ImageRecord, ModelRecord, Seconds, encode


def test_a_torn_last_line_is_left_out_then_cut_off(tmp_path: Path) -> None:
    torn = encode(ok(2))[:40]
    path = write_results(tmp_path, [ok(0), ok(1)], torn)
    assert [record.index for record in iter_records(path)] == [0, 1]
    assert truncate_torn_line(path) == 40
    with path.open("ab") as stream:
        stream.write(encode(ok(2)) + b"\n")
    assert [record.index for record in iter_records(path)] == [0, 1, 2]


def test_what_is_called_a_hole_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenZFS before 2.2.2 called data that were just written a hole; before, all of them were cut off."""
    monkeypatch.setattr(results_file, "_data_from", lambda stream, place: os.fstat(stream.fileno()).st_size)
    torn = encode(ok(2))[:40]
    path = write_results(tmp_path, [ok(0), ok(1)], torn)
    whole = path.read_bytes()[:-40]
    assert truncate_torn_line(path, 16) == 40 and path.read_bytes() == whole


def test_a_record_without_its_times_is_one(tmp_path: Path) -> None:
    """Exports took it, and for `resume` the line was damaged."""
    path = tmp_path / "results.jsonl"
    path.write_text('{"job":"j","index":0,"image":"a","page":0,"status":"ok"}\n')
    assert [line.status for _, line in read_lines(path) if line] == ["ok"] == [one.status for one in iter_records(path)]


@given(st.binary(max_size=60), st.integers(1, 20))
def test_cutting_keeps_every_whole_line(tmp_path_factory: pytest.TempPathFactory, data: bytes, block: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "results.jsonl"
    path.write_bytes(data)
    whole = data[: data.rfind(b"\n") + 1]
    assert truncate_torn_line(path, block) == len(data) - len(whole)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("hole", [5 << 16, 1 << 41])
def test_holes_cost_no_time(tmp_path: Path, hole: int) -> None:
    """Before: 28 hours for 16 TiB, of which the disk held 4 KB. 1,000 blocks in 2 GiB of holes are 64 KiB each."""
    path, numbers = write_results(tmp_path, [ok(0)]), list[int]()
    with path.open("r+b") as stream:
        for index in range(1, 4):
            stream.seek(index * hole)
            stream.write(b"x\n" + encode(ok(index)) + b"\n")
        stream.truncate(4 * hole)
    with PageOrder(path) as order:
        assert [record.index for record in order.records()] == [0, 1, 2, 3]
    assert [record.index for record in iter_records(path, numbers.append)] == [0, 1, 2, 3]
    assert numbers == [2, 4, 6] + [8] * (hole > 1 << 40), "a short tail was torn off"
    size = 3 * hole + len(encode(ok(3))) + 3
    assert truncate_torn_line(path) == 4 * hole - size and path.stat().st_size == size
    with path.open("wb") as stream:
        for index in range(1000):
            stream.seek(index << 21)
            stream.write(b"\n")
    assert len(list(read_lines(path))) == 1000


@pytest.mark.parametrize("size", [1 << 16, (1 << 16) + 1, 3 << 16, 200_000])
def test_lines_that_are_read_in_pieces(tmp_path: Path, size: int) -> None:
    long = encode(ok(1))
    long = long[:-1] + b',"padding":"' + b"x" * (size - len(long) - 14) + b'"}\n'
    path = write_results(tmp_path, [ok(0)], long + encode(ok(2)) + b"\n" + long[:-1])
    places = list(placed_records(path.open("rb"), lambda line: None))
    assert len(long) == size and [record.index for _, record in places] == [0, 1, 2]
    assert [path.read_bytes()[place : place + 1] for place, _ in places] == [b"{"] * 3
    assert [raw for raw, _ in read_lines(path)][1] == long


def test_damaged_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    path = write_results(tmp_path, [ok(0)])
    with path.open("ab") as stream:
        stream.write(b"\0\0\0\0\n" + encode(ok(1)) + b"\n{}\n")
    numbers: list[int] = []
    assert [record.index for record in iter_records(path, numbers.append)] == [0, 1]
    assert numbers == [2, 4]
    assert summarise(path).damaged == 2


def test_totals(tmp_path: Path) -> None:
    records = [
        ok(0, seconds=Seconds(total=0.1, infer=0.08), flags=["downscaled"]),
        ok(1, boxes=(), attempts=2, flags=["downscaled", "degraded"], peak_rss_mb=201.5, worker="other:7"),
        failed(2, kind="TooLarge"),
        failed(3, "c.jpg"),
    ]
    totals = summarise(write_results(tmp_path, records))
    assert (totals.images, totals.ok, totals.failed, totals.boxes, totals.without_text) == (4, 2, 2, 1, 1)
    assert [(failure.image, failure.type) for failure in totals.failures] == [
        ("b.jpg", "TooLarge"),
        ("c.jpg", "CorruptImage"),
    ]
    summary = totals.as_json()
    assert summary["errors"] == {"TooLarge": 1, "CorruptImage": 1}
    assert summary["flags"] == {"downscaled": 2, "degraded": 1}
    assert summary["peak_rss_mb"] == 201.5
    assert summary["hosts"] == {"host": 1, "other": 1}
    assert summary["stage_seconds"]["infer"] == 0.16
    assert summary["models"] == [{"name": "dbnet", "sha256": "ab" * 32, "runtime": "onnxruntime-int8", "images": 2}]


def test_failures_are_listed_up_to_a_limit(tmp_path: Path) -> None:
    totals = summarise(write_results(tmp_path, (failed(number) for number in range(FAILURES_KEPT + 5))))
    assert totals.failed == FAILURES_KEPT + 5 and len(totals.failures) == FAILURES_KEPT


def test_what_records_say_is_kept_in_part(tmp_path: Path) -> None:
    """Before: 60 MB of messages were 2.3 GB of a report's memory, 16 MB of flags 500; messages were printed whole."""
    said, settings = "\U0001f600" + "<" * 40_000, {"machine": "\x9b" * 40_000, "": "", "x": 7}
    records = [
        structs.replace(
            failed(number, f"{number}{said}.pdf", "Internal", f"{number} began {said} and ended"),
            flags=[*(f"{number}-{flag}" for flag in range(200)), said],
            model=ModelRecord(f"{number}{said}", said, said),
            worker=f"{number}{said}:1",
        )
        for number in range(32)
    ]
    path = write_results(tmp_path, [*records, ok(32, said, flags=["blank"] * 9)])
    (tmp_path / "job.json").write_text(json.dumps({"job": said, "finished_at": said, "settings": settings}))
    console = Console(file=io.StringIO(), width=100)
    tracemalloc.start()
    totals = summarise(path)
    print_summary(tmp_path, totals, fresh=1, seconds=1, console=console)
    shown = write_report(tmp_path).read_text()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert len(shown) < 700_000 and len(printed) < 100_000 and len(json.dumps(totals.as_json())) < 900_000
    assert peak < 4 * len(path.read_bytes())
    assert all(" began " in text and " and ended" in text for text in (totals.failures[31].message, shown, printed))
    assert totals.failures[0].image.endswith(".pdf") and len(totals.failures[0].image) == LONGEST_SAID
    assert sum(totals.flags.values()) == 32 * 201 + 9 and len(totals.flags) == MOST_KEYS + 1
    assert len(totals.hosts) == len(totals.models) == 33, "cut off, and told apart still"
    whole = failed(0, "n" * LONGEST_SAID, message="m" * LONGEST_SAID)
    kept = summarise(write_results(tmp_path, [whole])).failures[0]
    assert whole.error and (kept.image, kept.message) == (whole.image, whole.error.message)


def test_quantiles_are_right_to_a_bin() -> None:
    lot = random.Random(1)
    values = sorted(lot.lognormvariate(-2, 0.6) for _ in range(2000))
    histogram = Histogram(SECONDS_EDGES)
    for value in values:
        histogram.add(value)
    for share in (0.05, 0.5, 0.95):
        assert histogram.quantile(share) == pytest.approx(values[int(share * 2000)], rel=0.07)
    assert histogram.quantile(0) == pytest.approx(values[0], rel=0.13)
    assert histogram.quantile(1) == values[-1]
    assert sum(histogram.counts) == histogram.count == 2000


def test_values_beyond_the_edges_are_counted() -> None:
    histogram = Histogram((0.0, 1.0, 2.0))
    for value in (-5.0, 0.5, 99.0):
        histogram.add(value)
    assert histogram.counts == [2, 1]
    assert (histogram.least, histogram.most) == (-5.0, 99.0)
    assert Histogram((0.0, 1.0)).quantile(0.5) == 0 and Histogram((0.0, 1.0)).as_json(2)["median"] is None


TEXT = structs.replace(BOX, text="here", text_score=0.9, words=[])
TWICE = (
    ok(1, "b.jpg", boxes=[TEXT]),
    ok(0, "a.jpg", boxes=[TEXT, TEXT, TEXT]),
    failed(2, "c.jpg"),
    ok(2, "c.jpg", boxes=[]),
    failed(3, "d.jpg", message="cut once"),
    ok(3, "d.jpg", boxes=[TEXT]),
    failed(3, "d.jpg", message="cut twice"),
    ok(0, "a.jpg", boxes=[TEXT]),
)
"""Four pages, of which the last records are: one box, one box, no box, a failure. A collector was killed between a
retry's record and the drop of the old one, a line was copied, results of a job done twice were put together."""


def images_in(made: Path, name: str) -> list[str]:
    """Whose the files, tasks or rows of an export are."""
    if name == "csv":
        return [row["image"] for row in csv.DictReader(made.read_text().splitlines())]
    if name == "coco":
        data = json.loads(made.read_text())
        assert [item["image_id"] for item in data["annotations"]] == [1, 2]
        return [image["file_name"] for image in data["images"]]
    if name == "labelstudio":
        return [task["data"]["name"] for task in json.loads(made.read_text())]
    rows = list(csv.DictReader((made / "names.csv").read_text().splitlines()))
    files = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    assert files == {row["file"] for row in rows} | {"names.csv"} | ({"data.yaml"} & files)
    return [row["image"] for row in rows]


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("pdf", "crops")])
def test_the_last_record_of_a_page_counts_in_every_export(tmp_path: Path, name: str) -> None:
    """Before: csv, coco, icdar, pagexml and labelstudio had a page as often as it had a record."""
    made = export_results(write_results(tmp_path, TWICE).parent, name)
    assert images_in(made, name) == ["a.jpg", "b.jpg", "c.jpg", *(["d.jpg"] if name == "csv" else [])]
    if name == "csv":
        assert "cut twice" in made.read_text() and "cut once" not in made.read_text()


def test_the_last_record_of_a_page_counts_in_totals_and_report(tmp_path: Path) -> None:
    totals = summarise(write_results(tmp_path, TWICE))
    assert (totals.ok, totals.failed, totals.boxes, totals.without_text) == (3, 1, 2, 1)
    assert [failure.message for failure in totals.failures] == ["cut twice"]
    shown = write_report(tmp_path).read_text()
    assert "4 images, 1 failed" in shown and "cut twice" in shown and "cut once" not in shown


def test_results_that_are_replaced_meanwhile(tmp_path: Path) -> None:
    """COCO reads them twice, a report again at its end: annotations named images that were not there."""
    path = write_results(tmp_path, TWICE)
    with PageOrder(path) as order:

        def read() -> Iterator[ImageRecord]:
            for number, record in enumerate(order.records()):
                if number == 1:
                    path.unlink()
                    write_results(tmp_path, [ok(9, "z.jpg")] * 3)
                yield record

        first = list(read())
        assert [record.image for record in first] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
        assert list(order.records()) == first and order.record(9) is None
