"""A network whose answer is known, from file to boxes in original pixels."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image, ImageDraw

from detector.errors import CorruptImage, ModelError
from detector.geometry import unclip_distance
from detector.models import IMAGENET_MEAN, IMAGENET_STD, list_models, load_card, weights_path
from detector.predictor import TextDetector, normalise
from tests.detector.samples import save_oriented
from tests.detector.tiny_model import write_tiny_model

BRIGHT = (400, 600, 1200, 720)  # left, top, right, bottom in original pixels


def page_with_bright_line(width: int = 1700, height: int = 1100) -> Image.Image:
    image = Image.new("RGB", (width, height), (20, 20, 20))
    ImageDraw.Draw(image).rectangle((BRIGHT[0], BRIGHT[1], BRIGHT[2] - 1, BRIGHT[3] - 1), fill="white")
    return image


def expected_box(scale: float) -> np.ndarray:
    """The bright rectangle, unclipped, in original pixels."""
    left, top, right, bottom = BRIGHT
    grow = unclip_distance((right - left) * scale, (bottom - top) * scale, 1.5) / scale
    return np.array(
        [
            (left - grow, top - grow),
            (right + grow, top - grow),
            (right + grow, bottom + grow),
            (left - grow, bottom + grow),
        ]
    )


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_in_original_upright_pixels(tmp_path: Path, tiny_model: Path, orientation: int, suffix: str) -> None:
    path = save_oriented(page_with_bright_line(), orientation, tmp_path / f"page{suffix}")
    detection = TextDetector(tiny_model, limit_side=640).detect(path)
    assert (detection.width, detection.height) == (1700, 1100)
    assert detection.input_size == (414, 640)
    scale = 640 / 1700
    (box,) = detection.boxes
    assert np.array(box.points) == pytest.approx(expected_box(scale), abs=1.0 / scale)
    assert box.score > 0.95
    assert ("exif_rotated" in detection.flags) == (orientation != 1)
    assert set(detection.seconds) == {"open", "infer", "post"}


@pytest.mark.slow
def test_full_size_is_exact(tmp_path: Path, tiny_model: Path) -> None:
    path = save_oriented(page_with_bright_line(), 1, tmp_path / "page.png")
    (box,) = TextDetector(tiny_model).detect(path, limit_side=2000).boxes
    assert np.array(box.points) == pytest.approx(expected_box(1.0), abs=0.1)


def test_pixels_as_they_are(tiny_model: Path) -> None:
    (box,) = TextDetector(tiny_model).detect_pixels(np.array(page_with_bright_line()))
    assert np.array(box.points) == pytest.approx(expected_box(1.0), abs=0.1)


def test_one_pixel_and_a_strip(tmp_path: Path, tiny_model: Path) -> None:
    detector = TextDetector(tiny_model)
    Image.new("RGB", (1, 1), "white").save(tmp_path / "dot.png")
    assert detector.detect(tmp_path / "dot.png").boxes == []
    strip = Image.new("RGB", (20000, 50), "black")
    strip.paste((255, 255, 255), (9000, 15, 9400, 35))
    strip.save(tmp_path / "strip.png")
    found = detector.detect(tmp_path / "strip.png")
    assert found.input_size == (32, 12800)
    (box,) = found.boxes
    left, top, right, bottom = (*box.points[0], *box.points[2])
    assert 8950 < left < 9000 < 9400 < right < 9450
    assert 0 <= top < 15 < 35 < bottom <= 50


def test_errors_pass_through(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(CorruptImage):
        TextDetector(tiny_model).detect(tmp_path / "empty.jpg")


def test_normalise() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (33, 50, 3), dtype=np.uint8)
    batch = normalise(pixels, IMAGENET_MEAN, IMAGENET_STD)
    assert batch.shape == (1, 3, 64, 64)
    assert batch.dtype == np.float32
    expected = ((pixels / 255 - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)
    assert np.abs(batch[0, :, :33, :50] - expected).max() < 1e-5
    assert not batch[0, :, 33:].any()
    assert not batch[0, :, :, 50:].any()


def test_info_names_model_file_and_runtime(tiny_model: Path) -> None:
    info = TextDetector(tiny_model).info
    assert info.name == "bright"
    assert info.runtime == "onnxruntime-fp32"
    assert len(info.sha256) == 64


def test_a_card_beside_the_model_is_used_and_checked(tmp_path: Path, tiny_model: Path) -> None:
    model = tmp_path / "own.int8.onnx"
    shutil.copy(tiny_model, model)
    card = tmp_path / "own.json"
    card.write_text('{"name": "own", "mean": [0, 0, 0], "std": [1, 1, 1], "box_threshold": 0.7, "unclip_ratio": 2}')
    loaded = load_card(model)
    assert (loaded.mean, loaded.std) == ((0, 0, 0), (1, 1, 1))
    assert (loaded.thresholds.box_threshold, loaded.thresholds.unclip_ratio, loaded.thresholds.binarize) == (
        0.7,
        2,
        0.3,
    )
    assert loaded.precision == "int8"
    card.write_text('{"name": "own", "sha256": "00"}')
    with pytest.raises(ModelError, match=r"own\.int8\.onnx: damaged"):
        load_card(model)
    card.write_text("nonsense")
    with pytest.raises(ModelError, match=r"own\.json: .*not readable JSON"):
        load_card(model)


def test_models_that_cannot_be_used(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="no model 'nonsense'"):
        TextDetector("nonsense")
    with pytest.raises(ModelError, match="no such model file"):
        TextDetector(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="unknown runtime 'abacus'"):
        TextDetector(tiny_model, runtime="abacus")
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"bad\.onnx: ONNX Runtime cannot load it"):
        TextDetector(tmp_path / "bad.onnx")
    other = write_tiny_model(tmp_path / "other.onnx", input_name="pixels")
    with pytest.raises(ModelError, match="expected input 'image'"):
        TextDetector(other)
    with pytest.raises(ModelError, match="unknown kind"):
        weights_path("any", "pickle")


@pytest.mark.slow
def test_shipped_models_keep_the_contract() -> None:
    assert "dbnet-resnet18" in list_models()
    for name in list_models():
        card = load_card(name)  # checks the sha256
        model = onnx.load(card.path)
        assert [node.name for node in model.graph.input] == ["image"]
        assert [node.name for node in model.graph.output] == ["probability"]
        probability = TextDetector(name).probability(np.full((40, 70, 3), 128, np.uint8))
        assert probability.shape == (40, 70)
        assert 0 <= probability.min() <= probability.max() <= 1


def test_detecting_needs_neither_torch_nor_a_queue(tmp_path: Path, tiny_model: Path) -> None:
    page_with_bright_line().save(tmp_path / "page.png")
    program = (
        "import sys; from pathlib import Path; from detector.predictor import TextDetector\n"
        "assert TextDetector(sys.argv[1]).detect(Path(sys.argv[2])).boxes\n"
        "bad = {'torch', 'torchvision', 'celery', 'redis', 'click', 'worker', 'producer'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", program, tiny_model, tmp_path / "page.png"], check=True)


def test_importing_the_package_is_light() -> None:
    program = "import sys, detector; assert not {'numpy', 'cv2', 'PIL', 'onnxruntime'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
