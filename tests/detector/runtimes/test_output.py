"""A network's output that is not finite, or no map, fails its page: it was "ok", a page without text."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from detector.cli.detect import detect
from detector.errors import NetworkFailed
from detector.models import load_card
from detector.predictor import TextDetector
from detector.runtimes import Runtime
from detector.runtimes.onnx import OnnxRuntime
from detector.runtimes.output import page_map
from tests.detector.runtimes.odd_models import ODD, write_odd_model
from tests.detector.tiny_model import write_tiny_model

WHITE = np.full((1, 3, 64, 96), 2.5, np.float32)


def load(runtime: str, model: Path) -> Runtime:
    if runtime == "onnxruntime":
        return OnnxRuntime(model, "fp32")
    from detector.runtimes.openvino import OpenVinoRuntime

    card = load_card(model)
    return OpenVinoRuntime(card.path, card.precision, card.sha256)


# OpenVINO refuses texts and lists when it loads the model.
@pytest.mark.parametrize(
    ("what", "runtime"),
    [*((what, "onnxruntime") for what in ODD), *((what, "openvino") for what in ODD if what not in ("text", "list"))],
)
def test_every_odd_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, runtime: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)  # OpenVINO keeps no file, and starts no process
    network = load(runtime, write_odd_model(tmp_path / "odd.onnx", what))
    reason = "not finite" if what.startswith(("nan", "inf")) else r"no map .* expected float32 \(1, 1, \d+, \d+\)"
    with pytest.raises(NetworkFailed, match=reason):
        network.probability(WHITE)


def test_other_pages_of_such_a_network_have_their_boxes(tmp_path: Path) -> None:
    network = load("onnxruntime", write_odd_model(tmp_path / "odd.onnx", "nan-on-white"))
    for _ in range(2):
        assert np.allclose(network.probability(np.ones((1, 3, 32, 32), np.float32)), 1.0)
        with pytest.raises(NetworkFailed):
            network.probability(WHITE)


def test_one_value_of_a_map_is_enough() -> None:
    good = np.zeros((1, 1, 32, 64), np.float32)
    assert page_map(good, 32, 64).shape == (32, 64)
    assert page_map(good.astype(np.float16), 32, 64).dtype == np.float32
    for value in (np.nan, np.inf, -np.inf):
        bad = good.copy()
        bad[0, 0, 31, 63] = value
        with pytest.raises(NetworkFailed, match="not finite"):
            page_map(bad, 32, 64)


def test_a_page_in_tiles(tmp_path: Path) -> None:
    """One tile of six is white; what a worker on a small machine does."""
    page = np.zeros((1000, 1500, 3), np.uint8)
    page[:300, :300] = 255
    model = write_odd_model(tmp_path / "odd.onnx", "nan-on-white")
    detector = TextDetector(model, runtime="onnxruntime", limit_side=1500, tiled=True)
    with pytest.raises(NetworkFailed):
        detector.detect(page)


def test_detect_writes_failed_records_and_goes_on(tmp_path: Path) -> None:
    """Before: "ok" without boxes and exit code 0, or a traceback; scores of Infinity, which is no JSON."""
    for name, colour in (("a", 0), ("b", 255), ("c", 0)):
        Image.new("L", (64, 64), colour).save(tmp_path / f"{name}.png")
    model = write_odd_model(tmp_path / "odd.onnx", "nan-on-white")
    called = [str(tmp_path), "--runtime", "onnxruntime", "--model", str(model)]
    done = CliRunner().invoke(detect, called, standalone_mode=False)
    assert done.return_value == 1, done.output
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["status"] for record in records] == ["ok", "failed", "ok"]
    assert records[1]["error"]["type"] == "Internal" and records[1]["boxes"] == []
    assert "failed (Internal): the network's output is not finite" in done.stderr


def test_an_honest_network_is_as_before(tmp_path: Path) -> None:
    network = load("onnxruntime", write_tiny_model(tmp_path / "bright.onnx"))
    assert (network.probability(WHITE) > 0.99).all()
