"""Models by name: the shipped ones, and those a user registers with a folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from detector.errors import ModelError
from detector.models import WEIGHTS_FOLDER, card_file, list_models, load_card, weights_path
from tests.detector.cli.test_detect import run


def test_shipped_models_are_listed() -> None:
    done = run("models")
    assert done.returncode == 0
    heading, *lines = done.stdout.splitlines()
    assert heading.split()[0] == "name"
    card = load_card("dbnet-resnet18")
    (line,) = [line for line in lines if line.split()[0] == "dbnet-resnet18"]
    assert card.sha256[:12] in line
    assert "td500 val" in line
    assert max(map(len, done.stdout.splitlines())) <= 80
    cards = [json.loads(line) for line in run("models", "--json").stdout.splitlines()]
    (shipped,) = [listed for listed in cards if listed["name"] == "dbnet-resnet18"]
    assert (shipped["sha256"], shipped["bytes"]) == (card.sha256, card.path.stat().st_size)


def test_a_folder_registers_models(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(tiny_model, tmp_path / "bright.onnx")
    (tmp_path / "bright.json").write_text('{"scores": {"mine val @640": 0.9}, "binarize": 0.4}')
    shutil.copy(tiny_model, tmp_path / "no-card.onnx")
    monkeypatch.setenv("OCRFLEET_MODELS", f"/nowhere:{tmp_path}")
    assert list_models() == ["bright", *list_models(WEIGHTS_FOLDER)]
    assert load_card("bright").thresholds.binarize == 0.4
    (line,) = [line for line in run("models").stdout.splitlines() if line.startswith("bright")]
    assert line.split()[1] == "fp32"
    assert "mine val @640 0.9" in line
    (tmp_path / "bright.json").write_text('{"scores": [0.9]}')
    (line,) = [line for line in run("models").stdout.splitlines() if line.startswith("bright")]
    assert line.endswith("–")
    with pytest.raises(ModelError, match=r"'bright' has no file bright\.fp16\.safetensors"):
        weights_path("bright", "fp16_safetensors")
    done = run("detect", "nowhere.jpg", "--model", "bright")
    assert done.returncode == 1  # the model was found, the picture was not
    assert "nowhere.jpg" in done.stderr
    (tmp_path / "bright.json").write_text("{")
    done = run("models")
    assert done.returncode == 2
    assert "bright.json: the model card is not readable JSON" in done.stderr


@pytest.mark.parametrize(
    "card",
    [
        *('{"binarize": "high"}', '{"box_threshold": null}', '{"mean": 0.5}', '{"std": [1]}'),
        # What Python's JSON has beside numbers; each of these made every page one without text.
        *('{"binarize": NaN}', '{"min_side": Infinity}', '{"box_threshold": 2}', '{"unclip_ratio": -1}'),
        *(
            '{"std": [0, 1, 1]}',
            '{"std": [1, 1, NaN]}',
            '{"mean": [1, 1, -Infinity]}',
            '{"binarize": 1%s}' % ("0" * 400),
        ),
    ],
)
def test_a_card_without_numbers_is_named(tmp_path: Path, tiny_model: Path, card: str) -> None:
    shutil.copy(tiny_model, tmp_path / "bright.onnx")
    (tmp_path / "bright.json").write_text(card)
    with pytest.raises(ModelError, match=r"bright\.json: thresholds are numbers, mean and std three numbers each"):
        load_card(tmp_path / "bright.onnx")


def test_a_card_is_found_beside_every_precision() -> None:
    assert card_file(Path("x/my.int8.onnx")) == card_file(Path("x/my.onnx")) == Path("x/my.json")


def test_a_name_that_is_no_utf8_is_written_out(tmp_path: Path, tiny_model: Path) -> None:
    """It is in each record, and none could be written: every page of every job was a lost worker's."""
    odd = tmp_path / os.fsdecode(b"caf\xe9.onnx")
    shutil.copy(tiny_model, odd)
    assert load_card(odd).name == r"caf\xe9"
