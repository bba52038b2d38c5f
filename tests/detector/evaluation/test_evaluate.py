"""`ocr-detector evaluate`: rows by size and runtime, the worst images, finished results."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from detector.evaluation import evaluate as evaluation
from detector.evaluation.annotations import Sample
from detector.evaluation.metrics import Counts
from tests.detector.cli.test_detect import run
from tests.detector.test_predictor import page_with_bright_line

TRUTH = "320,522,1280,522,1280,798,320,798,text\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two images: on one the bright line is annotated as the tiny model finds it, on the other somewhere else."""
    (tmp_path / "val_images").mkdir()
    (tmp_path / "val_gts").mkdir()
    for name, truth in (("hit", TRUTH), ("miss", "10,10,50,10,50,30,10,30,text\n0,0,9,0,9,9,0,9,###\n")):
        page_with_bright_line().save(tmp_path / "val_images" / f"{name}.png")
        (tmp_path / "val_gts" / f"{name}.txt").write_text(truth)
    return tmp_path


def test_a_row_per_runtime_and_limit(data: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(data / "cache"))
    sizes = ("--limit-side", 640, "--limit-side", 320)
    runtimes = ("--runtime", "onnxruntime", "--runtime", "openvino")
    done = run("evaluate", "--data", data, "--model", tiny_model, *sizes, *runtimes, "--worst", 1, "-o", data / "worst")
    assert done.returncode == 0
    heading, *rows = done.stdout.splitlines()
    assert heading.split()[:8] == ["runtime", "limit", "images", "gt", "det", "precision", "recall", "hmean"]
    assert heading.split()[8:] == ["ms/image", "peak", "MB"]
    assert [row.split()[:8] for row in rows] == [
        [runtime, limit, "2", "2", "2", "0.500", "0.500", "0.500"]
        for runtime in ("onnxruntime-fp32", "openvino-fp32")
        for limit in ("640", "320")
    ]
    assert all("hmean 0.000 to 1.000 (95 %)" in row for row in rows)
    assert all(("+0.000 on the first row (+0.000 to +0.000)" in row) == (row != rows[0]) for row in rows)
    assert all(40 < int(row.split()[9]) < 1000 for row in rows)  # a process's own memory, not this one's
    assert sorted(folder.name for folder in (data / "worst").iterdir()) == [
        f"{runtime}-fp32-{limit}" for runtime in ("onnxruntime", "openvino") for limit in (320, 640)
    ]
    folder = data / "worst" / "openvino-fp32-320"
    assert sorted(file.name for file in folder.iterdir()) == ["001-0.00-miss.jpg", "worst.csv"]
    (listed,) = csv.DictReader((folder / "worst.csv").open())
    assert (listed["gt"], listed["missed"], listed["false"], listed["picture"]) == ("1", "1", "1", "001-0.00-miss.jpg")


def test_rows_as_json(data: Path, tiny_model: Path) -> None:
    done = run("evaluate", "--data", data, "--model", tiny_model, "--json", "--worst", 5, "-o", data / "worst")
    row = json.loads(done.stdout)
    assert (row["label"], row["runtime"], row["images"], row["hmean"]) == ("640", "onnxruntime-fp32", 2, 0.5)
    assert row["hmean_95"] == [0, 1] and "gain" not in row
    assert row["median_ms"] > 0
    assert row["peak_rss_mb"] > 40
    assert len(list((data / "worst").glob("*.jpg"))) == 2  # one row: no folder of its own


def test_thresholds_reach_the_rows(data: Path, tiny_model: Path) -> None:
    done = run("evaluate", "--data", data, "--model", tiny_model, "--json", "--unclip-ratio", 9)
    assert json.loads(done.stdout)["hmean"] == 0  # boxes grown so far that they no longer fit


def test_finished_results(data: Path, tiny_model: Path) -> None:
    results = data / "results.jsonl"
    assert run("detect", data / "val_images", "--model", tiny_model, "--limit-side", 640, "-o", results).returncode == 0
    done = run("evaluate", "--data", data, "--results", results, "--json")
    assert json.loads(done.stdout)["hmean"] == 0.5
    done = run("evaluate", "--data", data, "--results", results, "--worst", 1, "-o", data / "worst")
    assert done.stdout.splitlines()[1].split()[:3] == ["–", "results", "2"]
    assert (data / "worst" / "001-0.00-miss.jpg").is_file()
    results.write_text(results.read_text().splitlines()[0] + "\n")
    done = run("evaluate", "--data", data, "--results", results)
    assert done.returncode == 4
    assert "has no record of miss.png" in done.stderr
    results.write_text("{}\n")
    done = run("evaluate", "--data", data, "--results", results)
    assert done.returncode == 4
    assert "results.jsonl:1: not a record" in done.stderr


@pytest.mark.slow
def test_mistakes(data: Path, tiny_model: Path) -> None:
    for arguments, code, says in (
        (("--data", data / "val_gts", "--model", tiny_model), 4, "val_images"),
        (("--data", data, "--worst", 3), 2, "go together"),
        (("--data", data, "--results", "x", "--limit-side", 640), 2, "does not apply"),
        (("--data", data, "--split", "valid"), 2, "'valid' is not one of"),
        (("--data", data, "--model", "nonsense"), 2, "no model 'nonsense'"),
        (("--data", data, "--model", tiny_model, "--runtime", "torch"), 2, "torch reads .safetensors"),
        (("--data", data, "--model", tiny_model, "--runtime", "abacus"), 2, "unknown runtime"),
    ):
        done = run("evaluate", *arguments)
        assert done.returncode == code, (arguments, done.stderr)
        assert says in done.stderr
    (data / "val_gts" / "hit.txt").write_text(TRUTH + "1,2,3\n")
    done = run("evaluate", "--data", data, "--model", tiny_model)
    assert done.returncode == 4
    assert "hit.txt:2:" in done.stderr
    (data / "val_gts" / "hit.txt").write_text(TRUTH)
    (data / "val_images" / "hit.png").write_bytes(b"no image")
    done = run("evaluate", "--data", data, "--model", tiny_model)
    assert done.returncode == 4
    assert "hit.png" in done.stderr


def test_a_tally_lets_go_of_all_but_the_worst() -> None:
    tally, sample = evaluation.Tally(keep=2), Sample(Path("a.png"), Path("a.txt"))
    for number in range(100):
        counts = Counts(min(number, 9), 10, 10)
        tally.add(evaluation.ImageScore(sample, counts, np.zeros((number, 4, 2)), seconds=number / 1000))
    assert [len(score.boxes) for score in tally.worst] == [0, 1]
    summary = tally.summary("all")
    assert (summary.images, summary.counts.gt, summary.median_ms) == (100, 1000, pytest.approx(49.5))
    assert evaluation.Tally().summary("none") == evaluation.Summary("none", 0, Counts(), 0.0)


def test_results_of_pictures_that_are_links(tmp_path: Path) -> None:
    """Before: 1,000 links in a row were a RecursionError, and where two are of one name the link's target was asked."""
    for number in range(1000):
        (tmp_path / f"l{number:04}.png").symlink_to(f"l{number + 1:04}.png")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").symlink_to("../l0000.png")
    points = [[[0, 0], [9, 0], [9, 9], [0, 9]]]
    records = [
        {"image": "a/x.png", "boxes": []},
        {"image": "b/x.png", "boxes": [{"points": quad} for quad in points]},
    ]
    (tmp_path / "results.jsonl").write_text("\n".join(map(json.dumps, records)))
    find = evaluation.read_results(tmp_path / "results.jsonl")
    assert [len(find(tmp_path / name / "x.png")) for name in ("a", "b")] == [0, 1]
