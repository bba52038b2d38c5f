"""The same network in every runtime: same boxes, flat memory, one clear line where something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from shapely import Polygon

from detector.convert.export import export_onnx
from detector.errors import ModelError, NetworkFailed
from detector.models import load_card, weights_path
from detector.network.build import load_network
from detector.postprocess import Box
from detector.predictor import TextDetector
from detector.runtimes.openvino import MOST_SHAPES, OpenVinoRuntime, bucket
from detector.runtimes.torch import TorchRuntime
from tests.detector.cheap import compare_small
from tests.detector.tiny_model import write_tiny_model

WORDS = ("Invoice No. 20417", "Total amount due", "Please pay within 30 days", "Thank you")


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped network as fp32 ONNX."""
    path = tmp_path_factory.mktemp("exported") / "dbnet-resnet18.fp32.onnx"
    network = load_network(weights_path("dbnet-resnet18", "fp16_safetensors"))
    with pytest.MonkeyPatch.context() as patch:
        compare_small(patch)
        export_onnx(network, path, (320, 320), dynamic=True)
    return path


@pytest.fixture(scope="module")
def page() -> np.ndarray:
    """(416, 544, 3) uint8: four printed lines."""
    image = Image.new("RGB", (544, 416), "white")
    font = ImageFont.load_default(30)
    for number, words in enumerate(WORDS):
        ImageDraw.Draw(image).text((40, 30 + 95 * number), words, fill="black", font=font)
    return np.asarray(image).copy()


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    first, second = Polygon(one.points), Polygon(other.points)
    return first.intersection(second).area / first.union(second).area


def assert_same(one: list[Box], other: list[Box], least: float) -> None:
    assert len(one) == len(other) == len(WORDS)
    overlaps = np.array([[overlap(a, b) for b in other] for a in one])
    assert (overlaps.max(axis=1) > least).all(), overlaps
    assert (overlaps.max(axis=0) > least).all(), overlaps


def test_the_same_boxes_in_fp32(exported: Path, page: np.ndarray) -> None:
    thresholds = load_card("dbnet-resnet18").thresholds
    by_onnxruntime = TextDetector(exported, runtime="onnxruntime", thresholds=thresholds)
    by_openvino = TextDetector(exported, runtime="openvino", thresholds=thresholds)
    by_torch = TextDetector("dbnet-resnet18", runtime="torch")
    by_torch._runtime = TorchRuntime(by_torch.card.path, precision="fp32")
    assert by_onnxruntime.info.runtime == "onnxruntime-fp32"
    assert by_openvino.info.runtime == "openvino-fp32"
    assert by_torch._runtime.name == "torch-fp32"
    expected = by_onnxruntime.detect_pixels(page)
    # One pixel row of one line lies at the threshold: .93 of it is the same, of the others 1.0.
    assert_same(expected, by_openvino.detect_pixels(page), 0.9)
    assert_same(expected, by_torch.detect_pixels(page), 0.9)


def test_half_precision_and_int8_find_the_same_lines(exported: Path, page: np.ndarray) -> None:
    expected = TextDetector(exported, thresholds=load_card("dbnet-resnet18").thresholds).detect_pixels(page)
    for runtime in ("torch", "openvino", "onnxruntime"):
        detector = TextDetector("dbnet-resnet18", runtime=runtime)
        assert detector.info.runtime.startswith(runtime)
        assert_same(expected, detector.detect_pixels(page), 0.8)


@pytest.mark.slow
def test_torch_bf16_is_bf16(page: np.ndarray) -> None:
    path = weights_path("dbnet-resnet18", "fp16_safetensors")
    exact, half = TorchRuntime(path, precision="fp32"), TorchRuntime(path, device="cpu", precision="bf16")
    batch = np.ascontiguousarray(page.transpose(2, 0, 1)[None], np.float32) / 128 - 1
    difference = np.abs(exact.probability(batch) - half.probability(batch)).max()
    assert 1e-5 < difference < 0.5


@pytest.mark.slow
def test_torch_weights_of_nan_fail_the_page() -> None:
    """Before: a page without text."""
    runtime = TorchRuntime(weights_path("dbnet-mobilenet-v3-small", "fp16_safetensors"))
    with torch.no_grad():
        next(runtime._network.parameters()).fill_(torch.nan)
    with pytest.raises(NetworkFailed, match="not finite"):
        runtime.probability(np.zeros((1, 3, 32, 32), np.float32))


@pytest.mark.slow
def test_openvino_runs_few_shapes_and_forgets_them(tiny_model: Path) -> None:
    assert [bucket(side) for side in (32, 128, 160, 640)] == [128, 128, 256, 640]
    card = load_card(tiny_model)
    runtime = OpenVinoRuntime(card.path, card.precision, card.sha256)
    for number in range(1, MOST_SHAPES + 4):
        batch = np.full((1, 3, 32, 128 * number), -2.0, np.float32)
        batch[:, :, 8:16] = 2.0
        probability = runtime.probability(batch)
        assert probability.shape == (32, 128 * number)
        assert (probability[8:16] > 0.99).all()
        assert (probability[:8] < 0.01).all()
        assert len(runtime._shapes) <= MOST_SHAPES


@pytest.mark.slow
def test_openvino_keeps_its_own_file_in_the_cache(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    card = load_card(tiny_model)
    first = OpenVinoRuntime(card.path, card.precision, card.sha256)
    files = sorted(path.suffix for path in (tmp_path / "cache" / "ocrfleet" / "openvino").iterdir())
    assert files == [".bin", ".xml"]
    second = OpenVinoRuntime(card.path, card.precision, card.sha256)
    batch = np.random.default_rng(0).standard_normal((1, 3, 64, 96), np.float32)
    assert np.array_equal(first.probability(batch), second.probability(batch))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # nothing can be written below a file
    third = OpenVinoRuntime(card.path, card.precision, card.sha256)
    assert np.allclose(first.probability(batch), third.probability(batch), atol=1e-5)


@pytest.mark.slow
def test_files_of_the_wrong_kind(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"torch reads \.safetensors"):
        TextDetector(tiny_model, runtime="torch")
    weights = weights_path("dbnet-resnet18", "fp16_safetensors")
    with pytest.raises(ModelError, match=r"reads \.onnx files"):
        TextDetector(weights, runtime="openvino")
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"bad\.onnx: OpenVINO cannot load it"):
        TextDetector(tmp_path / "bad.onnx", runtime="openvino")
    (tmp_path / "bad.safetensors").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"bad\.safetensors: not a safetensors file"):
        TextDetector(tmp_path / "bad.safetensors", runtime="torch")


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_fixed_size_is_refused_with_the_remedy(tmp_path: Path, runtime: str) -> None:
    model = write_tiny_model(tmp_path / "fixed.onnx", sides=(320, 352))
    with pytest.raises(ModelError, match=r"fixed\.onnx: has a fixed input size \(320x352\).* --dynamic$"):
        TextDetector(model, runtime=runtime)
    half_free = write_tiny_model(tmp_path / "half.onnx", sides=("h", 352))
    with pytest.raises(ModelError, match=r"half\.onnx: has a fixed input size \(freex352\)"):
        TextDetector(half_free, runtime=runtime)


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_the_command_takes_a_runtime(tmp_path: Path, page: np.ndarray, runtime: str) -> None:
    Image.fromarray(page).save(tmp_path / "page.png")
    done = subprocess.run(
        [sys.executable, "-m", "detector.cli", "detect", str(tmp_path / "page.png")],
        capture_output=True,
        text=True,
        env={**os.environ, "OCRFLEET_RUNTIME": runtime},
    )
    assert done.returncode == 0, done.stderr
    assert f'"runtime": "{runtime}-' in done.stdout
