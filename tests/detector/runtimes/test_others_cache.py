"""OpenVINO's cache: a model in it is believed by its name, and so nobody else may have put it there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from detector.runtimes import openvino as runtime
from detector.runtimes.openvino import OpenVinoRuntime, own_folder
from tests.tools import missing

OTHER = 12345
SHA256 = "a" * 64
PAGE = np.ones((1, 3, 64, 64), np.float32)


def write_model(path: Path, kernel: float) -> Path:
    """probability = sigmoid(3 * kernel * image)."""
    weights = numpy_helper.from_array(np.full((1, 3, 1, 1), kernel, np.float32), "kernel")
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["probability"]),
    ]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, "h", "w"])]
        for name, channels in (("image", 3), ("probability", 1))
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "one", *ends, [weights]), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    onnx.save(model, str(path))
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that holds another model by the name of `model.onnx`; nothing is converted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "ocrfleet/openvino"
    folder.mkdir(0o700, parents=True)
    xml = folder / f"{SHA256[:32]}-{openvino.__version__.split('-')[0]}.xml"
    openvino.save_model(openvino.Core().read_model(write_model(tmp_path / "zero.onnx", 0)), str(xml))
    for file in folder.iterdir():
        file.chmod(0o600)
    write_model(tmp_path / "model.onnx", 1)
    monkeypatch.setattr(runtime.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1))
    return folder


def found(cache: Path) -> float:
    """What is seen on a white page: 0.5 by the model in the cache, 0.95 by the one that was named."""
    return float(OpenVinoRuntime(cache.parents[1] / "model.onnx", "fp32", SHA256).probability(PAGE).mean())


def spoil(file: Path, how: str) -> None:
    """Have another own it, write into it, or have put a link there."""
    if how == "another's":
        if os.geteuid() != 0:
            missing("needs root, to give a file to another user")
        os.chown(file, OTHER, -1)
    elif how == "a link":
        away = file.rename(file.parent / "away")
        file.symlink_to(away)
    else:
        file.chmod(file.stat().st_mode | 0o020)


def test_what_this_user_put_there_is_read(cache: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert found(cache) == pytest.approx(0.5)
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "the folder was let go"


@pytest.mark.parametrize("how", ["another's", "a link", "open to a group"])
@pytest.mark.parametrize("what", [".", "*.xml", "*.bin"])
def test_what_another_may_have_put_there_is_not(cache: Path, what: str, how: str) -> None:
    """Before: in a cache that a group may write into one of it had its pages "ok", with his boxes."""
    spoil(cache if what == "." else next(cache.glob(what)), how)
    assert found(cache) == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-4)


def test_what_takes_the_folders_place_is_not_read(cache: Path) -> None:
    """Whoever may write above it renames it at any moment."""
    descriptor = own_folder(cache)
    assert descriptor is not None
    cache.rename(cache.with_name("away"))
    shutil.copytree(cache.with_name("away"), cache)
    next(cache.glob("*.xml")).write_text("his")
    kept = runtime._cached(cache.parents[1] / "model.onnx", SHA256, descriptor)
    assert kept is not None and kept.read_text() != "his"
    os.close(descriptor)
