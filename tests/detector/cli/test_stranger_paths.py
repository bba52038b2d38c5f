"""Names, links and cards of strangers: none ends the work on the others, and no terminal obeys them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from detector.cli.detect import page_files
from detector.cli.evaluate import _draw_worst
from detector.cli.import_weights import import_weights
from detector.cli.models import models
from detector.cli.quantize import _files_of
from detector.convert import import_weights as importing
from detector.evaluation.annotations import Sample, list_split
from detector.evaluation.evaluate import ImageScore
from detector.evaluation.metrics import Counts
from detector.models import list_models
from tests.detector.test_predictor import page_with_bright_line

LONG = "x" * 300
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]")
EVIL = "\x1b[31mRED \x1b]0;owned\x07\x9b2J"


def test_detect_passes_over_a_link_to_a_long_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before: "File name too long", exit code 2, and none of the folder's pictures done."""
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").symlink_to(LONG)
    (tmp_path / "c.png").symlink_to("c.png")
    (tmp_path / "d.png").mkdir()
    (tmp_path / "e.png").symlink_to("a.png")
    assert list(page_files((tmp_path,))) == [tmp_path / "a.png", tmp_path / "e.png"]
    said = capsys.readouterr().err.splitlines()
    assert sorted(line.rpartition("/")[2] for line in said) == ["b.png", "c.png"]
    named = tuple(sorted(tmp_path.iterdir()))  # as a shell names them: each that is no folder has its record
    assert list(page_files(named)) == [path for path in named if path.name != "d.png"]


def test_ground_truth_beside_a_link_to_a_long_name(tmp_path: Path) -> None:
    images, gts = tmp_path / "val_images", tmp_path / "val_gts"
    for folder in (images, gts):
        folder.mkdir()
        (folder / f"b.{folder.name[4:7]}").symlink_to(LONG)
    for name in ("a", "b", "y" * 250):
        (images / f"{name}.png").touch()
    for name in ("a", "y" * 250):
        (gts / f"{name}.txt").touch()
    (gts / "b.txt").symlink_to(LONG)
    samples, problems = list_split(tmp_path, "val")
    assert [sample.image.stem for sample in samples] == ["a", "y" * 250] and not problems
    (tmp_path / "val_list.txt").write_text(f"a.png\nb.png\n{LONG}.png\na.png {LONG}.txt\n")
    samples, problems = list_split(tmp_path, "val")
    assert [sample.image.stem for sample in samples] == ["a"]
    assert [problem.split(":")[1] for problem in problems] == ["2", "3", "4"]
    assert tmp_path / "val_images" / "a.png" in _files_of(images)


def test_the_worst_pictures_have_short_names(tmp_path: Path) -> None:
    """Before: "File name too long", after all was measured."""
    scores = []
    for letter in "a漢":
        image = tmp_path / f"{letter * (250 // len(letter.encode()))}.png"
        page_with_bright_line().resize((64, 64)).save(image)
        truth = tmp_path / f"{letter}.txt"
        truth.touch()
        scores.append(ImageScore(Sample(image, truth), Counts(), np.zeros((0, 4, 2))))
    _draw_worst(scores, tmp_path / "worst")
    assert len(list((tmp_path / "worst").glob("*.jpg"))) == 2
    assert (tmp_path / "worst" / "worst.csv").read_text(encoding="utf-8").count(".png") == 2


def test_one_bad_card_hides_no_model(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, card in (("a", "[]"), ("b", json.dumps({"scores": {EVIL: 0.5}})), ("c", "{"), ("e", "{}")):
        shutil.copy(tiny_model, tmp_path / f"{name}.onnx")
        (tmp_path / f"{name}.json").write_text(card)
    (tmp_path / "d.onnx").symlink_to(LONG)
    (tmp_path / "d.json").write_text("{}")
    shutil.copy(tiny_model, tmp_path / f"{EVIL}.onnx")
    (tmp_path / f"{EVIL}.json").write_text('{"kind": "recogniser"}')
    monkeypatch.setenv("OCRFLEET_MODELS", str(tmp_path))
    assert {"a", "b", "c", "e"} <= set(list_models())
    for arguments in ([], ["--json"]):
        done = CliRunner().invoke(models, arguments, standalone_mode=False)
        assert done.exception is None and done.return_value == 2, done.output
        assert OBEYED.search(done.output) is None, ascii(done.output)
        for said in ("a: cannot be used", "c: cannot be used", "dbnet-resnet18", "RED"):
            assert said in done.output
        assert ('"name": "e"' if arguments else "\ne  ") in done.output


def test_names_of_files_are_printed_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = SimpleNamespace(lines=(f"{EVIL}.pt: MMOCR, ResNet-18", "done"))
    monkeypatch.setattr(importing, "import_onnx", lambda *_: told)
    (tmp_path / "a.onnx").touch()
    done = CliRunner().invoke(import_weights, [str(tmp_path / "a.onnx"), "-o", str(tmp_path / "b.onnx")])
    assert "owned" in done.output and OBEYED.search(done.output) is None, ascii(done.output)
