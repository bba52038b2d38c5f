"""From pictures to text and a searchable PDF: `ocr-producer run --read`, with a real server, worker and recogniser."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
from PIL import Image

from tests.detector.reading.tiny_reader import strip, write_tiny_reader
from tests.detector.tiny_model import write_tiny_model
from tests.processes import command


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder for OCRFLEET_MODELS: a detector for which colours are text, and a recogniser of colours."""
    folder = tmp_path / "models"
    folder.mkdir()
    write_tiny_model(folder / "bright.fp32.onnx")
    (folder / "bright.json").write_text(json.dumps({"mean": [0, 0, 0], "std": [0.1, 0.1, 0.1], "unclip_ratio": 0.01}))
    write_tiny_reader(folder / "colours.onnx")
    (folder / "colours.json").write_text(json.dumps({"kind": "recogniser"}))
    return folder


def page(path: Path, *texts: str) -> None:
    """A page with a line of one colour for each text, a single letter."""
    picture = Image.new("RGB", (400, 300))
    for number, text in enumerate(texts):
        line = strip(text)[:24, :16].mean(axis=(0, 1)).astype(int)
        picture.paste(tuple(map(int, line)), (40, 40 + 120 * number, 240, 88 + 120 * number))
    picture.save(path)


def test_run_read_export(models: Path, environment: dict[str, str], tmp_path: Path) -> None:
    pages, out = tmp_path / "in", tmp_path / "out"
    pages.mkdir()
    page(pages / "one.png", "a", "b")
    page(pages / "two.png", "c")
    environment = {**environment, "OCRFLEET_MODELS": str(models)}
    run = ("ocr-producer", "run", pages, "-o", out, "--quiet", "--no-report", "--model", "bright", "--read", "colours")
    run += ("--shape", "polygon")
    done = command(environment, *run)
    assert done.returncode == 0, done.stderr
    records = {r["image"]: r for r in map(json.loads, (out / "results.jsonl").read_text().splitlines())}
    found = [(box["text"], box["order"], box["angle"]) for box in records["one.png"]["boxes"]]
    assert found == [("a", 0, 0.0), ("b", 1, 0.0)]
    assert records["two.png"]["seconds"]["read"] > 0
    outline = records["two.png"]["boxes"][0]["polygon"]
    assert np.array(outline) == pytest.approx(np.array(records["two.png"]["boxes"][0]["points"]), abs=2)
    word = records["two.png"]["boxes"][0]["words"][0]
    assert word["text"] == "c"
    assert all(0 <= x <= 400 and 0 <= y <= 300 for x, y in word["points"])
    done = command(environment, "ocr-producer", "export", out, "--format", "pdf")
    assert done.returncode == 0, done.stderr
    text = pypdfium2.PdfDocument(out / "export-pdf" / "one.pdf")[0].get_textpage().get_text_range()
    assert text.split() == ["a", "b"]


def test_a_reader_that_is_not_here_stops_the_run_before_it_begins(
    models: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    page(tmp_path / "one.png", "a")
    environment = {**environment, "OCRFLEET_MODELS": str(models)}
    run = ("ocr-producer", "run", tmp_path / "one.png", "-o", tmp_path / "out", "--model", "bright", "--read")
    done = command({**environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}, *run, "nobody")
    assert done.returncode != 0
    assert "no recogniser 'nobody' (there are: colours)" in done.stderr
    assert "Traceback" not in done.stderr
    done = command(environment, *run, "/somewhere/own.onnx")
    assert done.returncode == 2
    assert "OCRFLEET_MODELS" in done.stderr
