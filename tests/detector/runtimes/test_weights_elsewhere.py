"""A model whose weights are in another file: a stranger's names a private one, and gets no copy of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

from detector.convert.import_onnx import CONVENTIONS
from detector.convert.import_onnx import convert as convert_onnx
from detector.convert.onnx_file import OnnxImportError, read_onnx
from detector.convert.quantize import QuantizeError, check_model, quantize_dynamic, quantize_static
from detector.errors import ModelError
from detector.models import load_card
from detector.runtimes.memory_addresses import refuse_addresses
from detector.runtimes.onnx import OnnxRuntime
from detector.runtimes.openvino import OpenVinoRuntime, convert
from detector.training.teacher import _load_openvino

SECRET = np.array([0.5, 0.25, 0.125], np.float32).tobytes()


def write_model(path: Path, location: str, offset: int = 0) -> Path:
    """probability = sigmoid(convolution by three numbers that are in the file of this name)."""
    kernel = TensorProto(name="kernel", data_type=TensorProto.FLOAT, dims=[1, 3, 1, 1])
    kernel.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(len(SECRET)))):
        kernel.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["probability"]),
        ],
        "weights-elsewhere",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 1, "h", "w"])],
        [kernel],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def strangers(tmp_path: Path) -> dict[str, Path]:
    """Models by how they name a private file that is not in their folder, and an honest one."""
    folder = tmp_path / "models"
    (tmp_path / "private").mkdir()
    folder.mkdir()
    secret = tmp_path / "private" / "secret.bin"
    secret.write_bytes(SECRET)
    (folder / "link.bin").symlink_to("../private/secret.bin")
    (folder / "linked").symlink_to("../private")
    (folder / "weights.bin").write_bytes(SECRET)
    locations = {
        "absolute": str(secret),
        "up": "../private/secret.bin",
        "link": "link.bin",
        "folder": "linked/secret.bin",
        "honest": "weights.bin",
    }
    return {name: write_model(folder / f"{name}.onnx", location) for name, location in locations.items()}


def test_no_file_is_copied_into_the_cache(
    strangers: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: OpenVINO 2026.4 read the absolute one, 2025.0 what lies relative to the current folder."""
    cache = tmp_path / "cache"
    cache.mkdir()
    for folder in (tmp_path, strangers["honest"].parent, Path("/")):
        monkeypatch.chdir(folder)
        for model in strangers.values():
            with pytest.raises(RuntimeError):
                convert(model, cache / "model.xml")
    assert list(cache.iterdir()) == []


@pytest.mark.slow
def test_such_a_model_is_refused_with_the_reason(
    strangers: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    card = load_card(strangers["absolute"])
    with pytest.raises(ModelError, match=r"secret\.bin.*outside"):
        OpenVinoRuntime(card.path, card.precision, card.sha256)
    card = load_card(strangers["honest"])
    runtime = OpenVinoRuntime(card.path, card.precision, card.sha256)
    seen = runtime.probability(np.ones((1, 3, 32, 32), np.float32))
    assert np.allclose(seen, 1 / (1 + np.exp(-0.875)), atol=1e-3)
    assert not list((tmp_path / "cache").rglob("*.bin"))


def test_an_address_of_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: OpenVINO read what lies there, which was in the cache then, or died without a line (SIGSEGV)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = write_model(tmp_path / "model.onnx", "*/_ORT_MEM_ADDR_/*", 4096)
    card = load_card(model)
    for load in (
        lambda: OpenVinoRuntime(card.path, card.precision, card.sha256),
        lambda: convert(model, tmp_path / "model.xml"),
        lambda: _load_openvino(model, 1),
    ):
        with pytest.raises(ModelError, match="an address of memory"):
            load()
    assert not (tmp_path / "cache").exists() and list(tmp_path.iterdir()) == [model]
    model.write_bytes(b"")
    refuse_addresses(model)


def test_only_onnx_is_read(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: OpenVINO's own format was loaded under this name, with the weights beside it through a link."""
    (tmp_path / "private").mkdir()
    convert(tiny_model, tmp_path / "private" / "model.xml")
    model = tmp_path / "model.onnx"
    (tmp_path / "private" / "model.xml").rename(model)
    (tmp_path / "model.bin").symlink_to("private/model.bin")
    cache = tmp_path / "cache"
    cache.write_bytes(b"")  # no folder: nothing is converted before, in a process of its own
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    card = load_card(model)
    for load in (
        lambda: OpenVinoRuntime(card.path, card.precision, card.sha256),
        lambda: _load_openvino(model, 1),
        lambda: OnnxRuntime(model, "fp32"),
    ):
        with pytest.raises(
            ModelError, match=r"model\.onnx: .*(OpenVINO cannot load it.*parsed|ONNX Runtime cannot load)"
        ):
            load()
    with pytest.raises(RuntimeError):
        convert(model, tmp_path / "model.xml")

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(tiny_model), options)
    unnameable = tmp_path / os.fsdecode(b"caf\xe9.onnx")  # its bytes are handed over
    shutil.copyfile(tmp_path / "model.ort", unnameable)
    for file in (tmp_path / "model.ort", unnameable):
        with pytest.raises(ModelError, match="ONNX Runtime cannot load"):
            OnnxRuntime(file, "fp32")


def test_what_is_kept_is_for_its_user_alone(tiny_model: Path, tmp_path: Path) -> None:
    convert(tiny_model, tmp_path / "model.xml")
    kept = sorted(tmp_path.iterdir())
    assert [path.suffix for path in kept] == [".bin", ".xml"]
    assert [path.stat().st_mode & 0o777 for path in kept] == [0o600, 0o600]


def test_onnx_runtime_refuses_it_too(strangers: dict[str, Path]) -> None:
    for name in ("absolute", "up", "link", "folder"):
        with pytest.raises(ModelError):
            OnnxRuntime(strangers[name], "fp32")
    assert OnnxRuntime(strangers["honest"], "fp32").name == "onnxruntime-fp32"
    with pytest.raises(onnx.checker.ValidationError):
        onnx.load(strangers["absolute"])


@pytest.mark.slow
def test_quantize_and_import_weights_say_it_in_a_line(
    strangers: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    """Before: tracebacks of onnx's, also over weights that do lie beside their model, and folders that are no UTF-8."""
    honest, made = strangers.pop("honest"), tmp_path / "made.onnx"
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(honest.parent, odd)
    for model in (*strangers.values(), odd / "honest.onnx"):
        with pytest.raises(QuantizeError, match=r"onnx: its weights are in another file"):
            check_model(model)
        with pytest.raises(OnnxImportError, match=r"its weights are in another file"):
            read_onnx(model)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    shutil.copyfile(tiny_model, odd / "tiny.onnx")
    for model in (honest, odd / "tiny.onnx"):
        check_model(model)
        quantize_static(model, made, [tmp_path / "a.png"])
        check = onnx.load(str(made), load_external_data=False).graph
        assert "QuantizeLinear" in {node.op_type for node in check.node}
        quantize_dynamic(model, made)
        assert (SECRET in made.read_bytes()) == (model == honest)


def test_bytes_are_onnx_whatever_they_begin_like(tmp_path: Path) -> None:
    """Before: a producer's name may put the mark of ONNX Runtime's own format where it looks for it."""
    (tmp_path / "weights.bin").write_bytes(SECRET)
    model = onnx.load(str(write_model(tmp_path / "a.onnx", "weights.bin")))
    model.producer_name = "ORTM"
    (tmp_path / "b.onnx").write_bytes(model.SerializeToString())
    assert convert_onnx(read_onnx(tmp_path / "b.onnx"), CONVENTIONS["imagenet"])[1] < 1e-4
