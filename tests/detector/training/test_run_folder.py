"""A stranger's folder of a run: `--resume` writes into it, and nowhere else."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from detector.cli import prune
from detector.errors import read_json
from detector.training import fit
from detector.training.distill import load_teacher
from detector.training.fit import FitOptions
from detector.training.fit_options import as_type
from detector.training.run_folder import RunFolderError, without_links, write_picture
from detector.training.synth.render import render
from tests.detector.tiny_model import write_tiny_model

PRECIOUS = "a line that somebody wrote"


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "precious.txt").write_text(PRECIOUS)
    return tmp_path / "own" / "precious.txt"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_the_table_of_prune_is_written_through_no_link(
    run: Path, precious: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.convert.prune.compare", lambda *_, **__: [])
    monkeypatch.setattr("detector.convert.prune.table", lambda _: "a table")
    monkeypatch.setattr("detector.network.build.load_network", lambda _: _Network())
    monkeypatch.setattr("detector.network.build.save_half", lambda *_: None)
    monkeypatch.setattr(prune, "_write_card", lambda *_: None)
    monkeypatch.setattr(prune, "configure_process", lambda **_: None)
    (run / prune.PLAN).write_text('{"model": "x", "ratio": 0.3, "int8": false, "training": {"data": "", "epochs": 0}}')
    (run / prune.TABLE).symlink_to("../own/precious.txt")
    prune._finish(run, going_on=True)
    assert precious.read_text() == PRECIOUS and (run / prune.TABLE).read_text() == "a table\n"


class _Network:
    def state_dict(self) -> dict[str, object]:
        return {}


def test_drawn_pages_are_written_through_no_link(run: Path, precious: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = np.zeros((8, 8, 3), np.uint8), np.zeros((1, 4, 2)), "scene"
    monkeypatch.setattr("detector.training.synth.render.make_page", lambda *_: page)
    for name, target in (
        ("images/scene-000000.jpg", precious),
        ("gts/scene-000000.txt", precious.with_name("new.txt")),
    ):
        link = run / "synthetic" / f"train_{name}"
        link.parent.mkdir(parents=True)
        link.symlink_to(target)
    render(run / "synthetic", [0], [])
    assert precious.read_text() == PRECIOUS and [path.name for path in precious.parent.iterdir()] == ["precious.txt"]
    write_picture(run / "a.png", np.zeros((8, 8), np.uint8), [])
    assert (run / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("place", ["teacher", "teacher/000000", "synthetic-0", "synthetic-0/train_images"])
def test_folders_that_lead_elsewhere_are_refused(run: Path, precious: Path, place: str) -> None:
    (run / place).parent.mkdir(exist_ok=True)
    (run / place).symlink_to(precious.parent)
    with pytest.raises(RunFolderError, match=f"{place}: is a link"):
        without_links(run / place.partition("/")[0])
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RunFolderError):
        patch.setattr(fit, "training_pages", lambda *_: [])
        patch.setattr("detector.training.distill.load_teacher", lambda *_: None)
        fit._groups(FitOptions(data="", distill="x" if place.startswith("teacher") else "", synthetic=1), run, str)
    assert [path.name for path in precious.parent.iterdir()] == ["precious.txt"]


def test_a_folder_called_teacher_that_is_not_ours_stays(run: Path, tmp_path: Path) -> None:
    """Before: removed with all that is in it."""
    (run / "teacher").mkdir()
    (run / "teacher" / "notes.txt").write_text(PRECIOUS)
    model = write_tiny_model(tmp_path / "teacher.onnx")
    with pytest.raises(RunFolderError, match=r"teacher: is not of ocr-detector train .* choose another -o"):
        load_teacher(model, run / "teacher", 1)
    assert (run / "teacher" / "notes.txt").read_text() == PRECIOUS


def test_maps_of_another_teacher_go_and_links_in_them_are_not_followed(
    run: Path, precious: Path, tmp_path: Path
) -> None:
    folder, mark = run / "teacher", run / "teacher" / "teacher.sha256"
    one, other = tmp_path / "one.onnx", tmp_path / "other.onnx"
    write_tiny_model(one)
    other.write_bytes(one.read_bytes() + b"\x32\x00")  # an empty string at its end: the same network
    load_teacher(one, folder, 1)
    before = mark.read_bytes()
    (folder / "000000").mkdir()
    load_teacher(one, folder, 1)
    assert (folder / "000000").is_dir() and mark.read_bytes() == before
    (folder / "000001").symlink_to(precious.parent)
    mark.unlink()
    mark.symlink_to(precious)
    load_teacher(other, folder, 1)
    assert [path.name for path in folder.iterdir()] == ["teacher.sha256"] and mark.read_bytes() != before
    assert precious.read_text() == PRECIOUS


ODD = [
    *({"data": 5}, {"data": "a\0"}, {"init": None}, {"epochs": "x"}, {"epochs": True}, {"lr": math.nan}),
    *({"batch_size": 0}, {"crop": 100}, {"crop": 1 << 70}, {"seed": 1 << 64}, {"width": 0}, {"device": "tpu"}),
    *({"lr": math.inf}, {"amp": "yes"}, {"limit_side": 1.5}, {"synthetic": [1]}, {"no": 1}, {"epochs": -1}),
]


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_settings_of_other_types_are_refused(odd: dict[str, object]) -> None:
    """Before: a traceback, in the middle of whatever took them first."""
    with pytest.raises(ValueError, match=next(iter(odd))):
        as_type({"data": "", **odd}, FitOptions)
    for no_settings in (None, [], "x", {}):
        with pytest.raises(ValueError, match=r"Expected|required"):
            as_type(no_settings, FitOptions)


def test_settings_are_read_as_they_were_written() -> None:
    """Of every command line, in a folder whose name is no UTF-8 too; a file of a version before has fewer."""
    for options in (
        FitOptions("caf\udce9", "x.pt", "resnet18", 1, 256, 1.0, 64, "cuda", True, "t.onnx", 9, 32, -5, 8, False),
        FitOptions("data", epochs=0, limit_side=8192, crop=2048, width=512, seed=2**63 - 1),
    ):
        assert as_type(read_json(json.dumps(asdict(options))), FitOptions) == options
    assert as_type({"data": "data", "lr": 1}, FitOptions) == FitOptions("data", lr=1.0)
