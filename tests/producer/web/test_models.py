"""What the page says of models."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.requests import Request

from detector.models import list_models, load_card
from producer.web.models import Export, Exporter, models, scores_of


def test_scores_on_unseen_images_come_first() -> None:
    """Before: the page showed what 30 validation photos said, of which development had chosen the best look."""
    details = {"scores": {"funsd val @640 int8": 0.5}, "held_out": {"90 photos @640": [0.8, 0.7, 0.9]}}
    assert next(iter(scores_of(details).items())) == ("90 photos @640", 0.8)
    measured = details | {"unseen": {"td500 test @640 int8": 0.781}}
    assert next(iter(scores_of(measured).items())) == ("td500 test @640 int8", 0.781)


def test_shipped_models_show_what_was_held_out_first() -> None:
    for name in list_models():
        scores = scores_of(load_card(name).details)
        assert " val " not in next(iter(scores)), name
        assert all(isinstance(score, float) for score in scores.values())


def test_one_bad_card_answers_nobody_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: a card that is no object, or whose scores are no JSON, and GET /models was an error to all."""
    odd = {"scores": {"a\ud800": 1, "b": float("nan"), "c": [1], "d": 0.5}, "held_out": {"e": [], "f": 3}}
    for name, card in (("a", "[]"), ("b", "{"), ("c", json.dumps(odd))):
        (tmp_path / f"{name}.onnx").touch()
        (tmp_path / f"{name}.json").write_text(card)
    monkeypatch.setenv("OCRFLEET_MODELS", str(tmp_path))
    settings = SimpleNamespace(model="c", limit_side=640, profile=SimpleNamespace(name="low"))
    service = SimpleNamespace(settings=settings, web=SimpleNamespace(max_files=1, max_file_mb=1, quota_mb=1))
    scope = {"type": "http", "app": SimpleNamespace(state=SimpleNamespace(service=service))}
    told = {model["name"]: model for model in json.loads(models(Request(scope)).body)["models"]}
    assert {"c", "dbnet-resnet18"} <= told.keys() and not {"a", "b"} & told.keys()
    assert told["c"]["scores"] == {"a\\xd800": 1, "d": 0.5}


def test_an_export_whose_file_cannot_be_kept_is_over(tmp_path: Path) -> None:
    """Before: none could be begun until somebody deleted it."""
    exporter = Exporter(tmp_path)
    (tmp_path / "m-640.onnx" / "in the way").mkdir(parents=True)
    (tmp_path / "m-640.part.onnx").touch()
    process = subprocess.Popen(["true"], stdout=subprocess.PIPE)
    export = exporter._exports["m-640"] = Export("m", 640, process, time.monotonic())
    exporter._watch("m-640", export)
    assert export.failed and export.said == "Is a directory" and export.seconds is not None
    assert exporter.status("m-640")["state"] == "failed"
