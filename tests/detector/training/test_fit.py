"""`train` as a whole: what it writes, what it starts from, and that a killed run ends as an unbroken one would have."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from urllib.error import URLError

import cv2
import numpy as np
import onnx
import pytest
import torch

from detector.cli.export import export
from detector.cli.train import _first_weights, train
from detector.convert.export import export_onnx, pass_card_on
from detector.errors import ModelError
from detector.models import load_card
from detector.network.build import build_network, load_network, read_state, save_half
from detector.training import fit as fitting
from detector.training.augment import suit_view
from detector.training.distill import load_teacher
from detector.training.fit import FitError, FitOptions, check_data, fit, start_network, training_pages
from detector.training.trainer import TrainConfig
from tests.detector.cheap import compare_small, draw_no_curve
from tests.detector.commands import run_command
from tests.detector.training.pages import make_pages

RULES = {"binarize": 0.4, "box_threshold": 0.55, "unclip_ratio": 1.7}

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from detector.training import fit as fitting
from detector.training.trainer import Trainer
fitting.SAVE_SECONDS = 0.0
train_step = Trainer._train_step
def dying(self, batch):
    if self.step == 4:  # the second step of the second epoch
        os.kill(os.getpid(), signal.SIGKILL)
    return train_step(self, batch)
Trainer._train_step = dying
import json
fitting.fit(fitting.FitOptions(**json.loads(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_pages(tmp_path_factory.mktemp("data") / "bars", 5)
    return make_pages(folder, 2, "val")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_half(build_network("mobilenet_v3_small", width=16).state_dict(), folder / "mine.fp16.safetensors")
    (folder / "mine.json").write_text(json.dumps({"name": "mine", **RULES, "sha256": "0", "scores": {"x": 1}}))
    return folder / "mine.fp16.safetensors"


@pytest.fixture(scope="module")
def options(data: Path, weights: Path) -> FitOptions:
    return FitOptions(str(data), str(weights), epochs=2, batch_size=2, crop=64, limit_side=160)


@pytest.fixture(scope="module")
def unbroken(options: FitOptions, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A finished run of two epochs of three steps, and what it said. In its folder there were links to a file."""
    run, said = tmp_path_factory.mktemp("unbroken"), list[str]()
    (run.parent / "precious.txt").write_text("somebody's")
    for name in ("config.json", "metrics.csv", "curve.png", "best.pt", "best.json", "last.pt"):
        (run / name).symlink_to(run.parent / "precious.txt")
    fit(options, run, say=said.append)
    return run, said


def test_a_run_leaves_its_record(unbroken: tuple[Path, list[str]], options: FitOptions) -> None:
    run, said = unbroken
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [(row["epoch"], row["step"]) for row in rows] == [("0", "0"), ("1", "3"), ("2", "6")]
    assert json.loads((run / "config.json").read_text()) == asdict(options)
    # Before: the curve was drawn into the file that a stranger's link led to.
    assert (run.parent / "precious.txt").read_text() == "somebody's"
    assert not any(path.is_symlink() for path in run.iterdir())
    curve = cv2.imread(str(run / "curve.png"))
    assert curve is not None and min(curve.shape[:2]) > 300 and len(np.unique(curve.reshape(-1, 3), axis=0)) > 3
    assert said[0].startswith("5 training and 2 validation images, 6 steps of 2 crops of 64 px on cpu")
    assert any(line.startswith("step 3/6  loss ") and line.endswith(" left") for line in said)
    assert said[-2].startswith("validation hmean 0.0000 before, 0.0000 after epoch 1 (+0.0 points)")
    assert "smaller --lr" in said[-1]


@pytest.mark.slow
def test_killed_with_sigkill_and_resumed_it_is_the_same_run(
    unbroken: tuple[Path, list[str]], options: FitOptions, tmp_path: Path
) -> None:
    run = tmp_path / "killed"
    done = subprocess.run([sys.executable, "-c", KILLED, json.dumps(asdict(options)), str(run)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 4
    said: list[str] = []
    fit(options, run, resume=True, say=said.append)
    assert "going on after step 4" in said
    assert (run / "metrics.csv").read_bytes() == (unbroken[0] / "metrics.csv").read_bytes()
    for name in ("last.pt", "best.pt"):
        one, other = (torch.load(folder / name, weights_only=True) for folder in (run, unbroken[0]))
        for part in ("model", "ema"):
            assert all(torch.equal(value, other[part][key]) for key, value in one[part].items()), name
    with pytest.raises(FitError, match="the training pages changed"):
        fit(replace(options, data=str(make_pages(tmp_path / "other", 4))), run, resume=True, say=said.append)


def test_weights_keep_their_norms_and_thresholds(unbroken: tuple[Path, list[str]], weights: Path) -> None:
    before, after = read_state(weights), read_state(unbroken[0] / "last.pt")
    norms = [key for key in before if ".running_" in key]
    assert norms and all(torch.equal(before[key], after[key]) for key in norms)
    assert not torch.equal(before["head.0.weight"], after["head.0.weight"])
    card = load_card(unbroken[0] / "best.pt")
    assert (card.thresholds.binarize, card.thresholds.box_threshold, card.thresholds.unclip_ratio) == tuple(
        RULES.values()
    )
    assert card.details["backbone"] == "mobilenet_v3_small" and card.details["scores"] == {"val @160": 0.0}


def test_cards_travel_with_exports_and_spare_strangers(weights: Path, tmp_path: Path) -> None:
    code, output = run_command(export, weights, "--size", 320, "-o", tmp_path / "its.fp32.onnx")
    assert code == 0 and "its thresholds in its.json" in output
    card = load_card(tmp_path / "its.fp32.onnx")
    assert card.thresholds.unclip_ratio == 1.7 and card.details["from"] == "mine"
    assert not {"sha256", "scores"} & card.details.keys()
    (tmp_path / "package.json").write_text('{"private": true}')
    assert pass_card_on(weights, tmp_path / "package.onnx") is None
    assert json.loads((tmp_path / "package.json").read_text()) == {"private": True}
    assert pass_card_on(tmp_path / "none.safetensors", tmp_path / "new.onnx") is None


def test_pages_are_scaled_around_the_size_of_use_and_turned_as_they_are(data: Path) -> None:
    straight = training_pages(data, 100)
    assert [page.view.sides for page in straight if page.view] == [(70.0, 140.0)] * 5
    assert training_pages(data, 1280)[0].view.sides == pytest.approx((112, 224))  # type: ignore[union-attr]
    level = np.array([[[0, 0], [90, 1], [90, 20], [0, 19]]] * 20, np.float32)
    upright = level[:, [1, 2, 3, 0]]  # the same box read from another corner
    leaning = np.array([[[0, 0], [90, 40], [80, 60], [-10, 20]]] * 20, np.float32)
    assert suit_view(level, (1, 2)).free_turn == suit_view(upright, (1, 2)).free_turn == 0
    assert suit_view(np.concatenate([level, leaning]), (1, 2)).free_turn > 0
    assert suit_view(level[:0], (1, 2)).sides == (1, 2)


@pytest.mark.parametrize("foreign", [False, True], ids=["ours", "another project's"])
def test_a_teacher_and_synthetic_pages(
    data: Path, options: FitOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foreign: bool
) -> None:
    compare_small(monkeypatch)
    draw_no_curve(monkeypatch)
    torch.manual_seed(1)
    teacher, run, said = tmp_path / "teacher.onnx", tmp_path / "run", list[str]()
    export_onnx(build_network("mobilenet_v3_small", width=16), teacher, (320, 320), dynamic=True)
    if foreign:
        rename(teacher, "x", "sigmoid_0.tmp_0")  # as PP-OCR's are
    chosen = replace(options, epochs=1, batch_size=4, distill=str(teacher), synthetic=2)
    fit(chosen, run, say=said.append)
    assert "teacher: 5 of 5 pages" in said and (run / "best.pt").is_file()
    assert (run / "teacher/teacher.onnx").is_file() == foreign
    known = cv2.imread(str(run / "teacher/000000/p0.teacher.png"), cv2.IMREAD_GRAYSCALE)
    assert known is not None and known.shape == (160, 160) and 0 < known.mean() < 255
    assert len(list((run / f"synthetic-{options.seed}/train_images").iterdir())) == 2
    export_onnx(
        build_network("mobilenet_v3_small", width=16), other := tmp_path / "other.onnx", (320, 320), dynamic=True
    )
    load_teacher(other, run / "teacher", threads=1)
    assert not (run / "teacher/000000").exists(), "maps of another teacher do not serve"
    fit(chosen, run, resume=True, say=said.append)
    teacher.unlink()  # what was taken over or drawn is not needed a second time
    if foreign:
        assert fit(chosen, run, resume=True, say=said.append)["epoch"] == 1


def rename(path: Path, image: str, probability: str) -> None:
    model = onnx.load(str(path))
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = {"image": image, "probability": probability}.get(name, name)
    model.graph.input[0].name, model.graph.output[0].name = image, probability
    onnx.save(model, str(path))


def test_a_strange_teacher_is_refused_by_name(options: FitOptions, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    for name, complaint in (("bad.onnx", "bad.onnx: not an ONNX file"), ("none.onnx", "none.onnx: no such file")):
        with pytest.raises(ModelError, match=complaint):
            fit(replace(options, distill=str(tmp_path / name)), tmp_path / "run", say=str)


def test_starts(options: FitOptions, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anew = replace(options, init="", backbone="shufflenet_v2_x1_0", width=24)
    one, other = (start_network(anew, None, str) for _ in range(2))
    assert (one.backbone, one.width) == ("shufflenet_v2_x1_0", 24)
    state = one.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in other.state_dict().items())
    assert start_network(replace(options, init=""), None, str).backbone == "resnet18"
    with pytest.raises(FitError, match=r"mine.fp16.safetensors: holds a mobilenet_v3_small, not --backbone resnet18"):
        start_network(replace(options, backbone="resnet18"), None, str)
    with pytest.raises(FitError, match="not for resnet18"):
        start_network(replace(options, init="imagenet", backbone="resnet18"), None, str)

    def offline(*words: object, pretrained: bool = False, **more: object) -> object:
        if pretrained:
            raise URLError("no network")
        return build_network(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(fitting, "build_network", offline)
    said: list[str] = []
    fallen_back = start_network(replace(anew, init="imagenet"), None, said.append)
    assert len(said) == 1 and "could not be downloaded" in said[0]
    assert all(torch.equal(value, state[key]) for key, value in fallen_back.state_dict().items())


def test_which_weights_a_backbone_starts_from(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _first_weights(None, None) == _first_weights("resnet18", None) == "dbnet-resnet18"
    assert _first_weights("resnet18", 64) == "none" and _first_weights("mobilenet_v3_small", 64) == "imagenet"
    monkeypatch.setattr("detector.cli.train.list_models", lambda folder: [])
    assert _first_weights("shufflenet_v2_x1_0", None) == "imagenet"


def test_norms_move_only_where_they_should(options: FitOptions) -> None:
    network = build_network("mobilenet_v3_small", width=16)

    def frozen(chosen: FitOptions) -> bool:
        config: TrainConfig = fitting.make_config(chosen, 10, network)
        return config.freeze_norm

    assert frozen(options)
    assert not frozen(replace(options, init="")) and not frozen(replace(options, init="imagenet"))
    assert not frozen(replace(options, keep_norms=False))


def test_without_validation_pages_the_last_checkpoint_is_the_best(options: FitOptions, tmp_path: Path) -> None:
    said: list[str] = []
    fit(replace(options, data=str(make_pages(tmp_path / "d", 2)), epochs=1), tmp_path / "run", say=said.append)
    assert any("nothing is validated" in line for line in said)
    assert load_network(tmp_path / "run/best.pt").backbone == "mobilenet_v3_small"
    assert (tmp_path / "run/metrics.csv").read_text().splitlines()[1].endswith(",,,")


def test_bad_images_are_found_before_training(tmp_path: Path) -> None:
    data = make_pages(tmp_path / "d", 3)
    (data / "train_images/p1.png").write_bytes(b"no picture")
    (problem,) = check_data(data)
    assert "p1.png" in problem


def test_train_refuses_what_does_not_fit_together(data: Path, weights: Path, tmp_path: Path) -> None:
    def complaint(*words: object) -> str:
        code, output = run_command(train, *words)
        assert code == 2, output
        return output

    run = tmp_path / "run"
    assert "give -o RUN" in complaint("--data", data)
    assert "the nearest is 640" in complaint("--data", data, "--crop", 650, "-o", run)
    assert "try 60" in complaint("--data", data, "--fpn-width", 62, "-o", run)
    assert "weights have their own width" in complaint("--data", data, "--init", weights, "--fpn-width", 64, "-o", run)
    code, output = run_command(train, "--data", data, "--check-only")
    assert code == 0 and "nothing wrong; 5 train, 2 val images" in output
    assert not run.exists() and not any(tmp_path.iterdir())
