"""docs/models.md: made of cards and of pictures that the models really saw."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.models import WEIGHTS_FOLDER, list_models, load_card
from detector.training.model_page import COMMAND, main, score_rows, write_page
from tests.detector.test_predictor import page_with_bright_line
from tests.detector.tiny_model import write_tiny_model

ROOT = Path(__file__).parents[3]


def write_toy(folder: Path, **changes: Any) -> Path:
    """A weights folder with one model, for which bright pixels are text."""
    weights = folder / "weights"
    weights.mkdir(exist_ok=True)
    int8 = write_tiny_model(weights / "toy.int8.onnx")
    (weights / "toy.fp16.safetensors").write_bytes(b"x" * 2_000_000)
    page_with_bright_line().save(folder / "bright.png")
    card = {
        "name": "toy",
        "sha256": hashlib.sha256(int8.read_bytes()).hexdigest(),
        "files": {"int8_onnx": int8.name, "fp16_safetensors": "toy.fp16.safetensors"},
        "backbone": "none",
        "width": 8,
        "parameters": 1234567,
        "level": "line",
        "scores": {"funsd val @640 int8": 0.5, "td500 val @960 int8": 0.712, "td500 val @640 fp32": 0.7},
        "licence": "Apache-2.0",
        "data": [{"name": "pages|drawn", "use": "3", "terms": "ours"}],
        "recipe": "By hand.",
        "failures": [{"what": "All that is bright.", "picture": "bright.png"}, {"what": "Ink.", "picture": ""}],
    }
    (weights / "toy.json").write_text(json.dumps(card | changes))
    return weights


def test_the_page_shows_the_card_and_what_the_model_sees(tmp_path: Path) -> None:
    write_page(write_toy(tmp_path), tmp_path / "docs/models.md", tmp_path)
    text = (tmp_path / "docs/models.md").read_text()
    for part in ("[toy](#toy)", "1.2 M", "2.0 MB", "1,234,567", "pages\\|drawn", "By hand.", "- Ink.", "`weights/`"):
        assert part in text
    assert re.findall('src="([^"]+)"', text) == ["models/toy-bright.jpg"]
    seen = np.asarray(Image.open(tmp_path / "docs/models/toy-bright.jpg"), int)
    assert max(seen.shape) == 640
    red = (seen[..., 0] > 180) & (seen[..., 1] < 110)
    assert red.sum() > 100, "the box is drawn"


def test_scores_are_sorted_by_set_and_size() -> None:
    scores = {"funsd val @640 int8": 0.5, "td500 val @960 int8": 0.712, "td500 val @640 fp32": 0.7}
    assert [row[1:] for row in score_rows(scores)] == [["640", "", "0.700"], ["960", "0.712", ""], ["640", "0.500", ""]]


def test_a_card_without_a_field_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = write_toy(tmp_path, data="all sorts")
    assert main(["--weights", str(weights), "--output", str(tmp_path / "models.md")]) == 2
    complaint = capsys.readouterr().err
    assert "toy.json" in complaint and len(complaint.splitlines()) == 1


def test_the_page_in_docs_is_that_of_the_shipped_models() -> None:
    text = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    for name in list_models(WEIGHTS_FOLDER):
        card = load_card(name)
        assert card.sha256 in text and card.details["recipe"] in text, f"docs/models.md is old: {COMMAND}"
    for picture in re.findall('src="([^"]+)"', text):
        assert (ROOT / "docs" / picture).is_file(), picture


def test_the_page_says_what_was_held_out_and_what_thresholds_were_chosen_on(tmp_path: Path) -> None:
    changes = {
        "unseen": {"td500 test @640 int8": 0.781},
        "unseen_thresholds": {"binarize": 0.4, "box_threshold": 0.7},
        "held_out": {"90 photos @640": [0.84, 0.79, 0.89], "agreement with others @640": [0.7, 0.651, 0.749]},
        "scores": {"sroie val @1280 int8": 0.94},
        "chosen_on": "90 photos.",
    }
    write_page(write_toy(tmp_path, **changes), tmp_path / "docs/models.md", tmp_path)
    text = (tmp_path / "docs/models.md").read_text()
    assert "toy was measured there with binarize, box and unclip 0.4 / 0.7. It comes with 0.3 / 0.5," in text
    for part in (
        "td500 test @640 |",
        "| 0.700 (0.65 to 0.75) | 0.940 | – | 0.781 |",
        "| 90 photos @640 | 0.840 | 0.790 to 0.890 |",
        "chosen on: 90 photos.",
    ):
        assert part in text


def test_scores_of_the_thresholds_a_model_comes_with_need_no_words(tmp_path: Path) -> None:
    changes = {"unseen_thresholds": {"binarize": 0.4}, "binarize": 0.4, "scores": {"funsd val @640 int8": 0.5}}
    write_page(write_toy(tmp_path, **changes), tmp_path / "docs/models.md", tmp_path)
    text = (tmp_path / "docs/models.md").read_text()
    assert "was measured there" not in text
    assert "| set | size | int8 |\n" in text, "no empty column for fp32"
