"""What a stranger's model, checkpoint, card or ground truth may take: a line, not the machine's memory."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from detector.convert.import_weights import ImportWeightsError, read_foreign
from detector.convert.onnx_file import OnnxImportError, read_onnx
from detector.errors import ModelError
from detector.evaluation.annotations import AnnotationError, read_annotations
from detector.evaluation.evaluate import EvaluateError, read_results
from detector.models import read_card
from detector.network.build import load_network
from detector.reading.recogniser import _text
from detector.runtimes.tuned import tuned

# As `ocr-detector` on a machine of 600 MB.
SMALL_MACHINE = """
import atexit, sys
import detector.cli.main
from detector.machine import Machine
program = sys.modules["detector.cli.main"]
program.read_machine = lambda: Machine(1, 600, "RAM")
atexit.register(lambda: print("score", open("/proc/self/oom_score_adj").read(), file=sys.stderr))
program.main()
"""


def asks_for_16_gb(path: Path) -> None:
    """300 bytes of ONNX."""
    size = helper.make_tensor("size", TensorProto.INT64, [2], [2**16, 2**16])
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["all"], value=helper.make_tensor("one", 1, [1], [1.0])),
        helper.make_node("ReduceMean", ["all"], ["mean"], keepdims=0),
        helper.make_node("ReduceMean", ["image"], ["gray"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["gray", "mean"], ["product"]),
        helper.make_node("Sigmoid", ["product"], ["probability"]),
    ]
    image = helper.make_tensor_value_info("image", 1, [None, 3, None, None])
    probability = helper.make_tensor_value_info("probability", 1, [None, 1, None, None])
    graph = helper.make_graph(nodes, "graph", [image], [probability], [size])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def unpacks_to_a_gb(path: Path) -> None:
    """1 MB of a checkpoint, which torch stores and a stranger deflates."""
    plain = path.with_suffix(".plain")
    torch.save({"w": torch.zeros(4)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for name in source.namelist():
            with target.open(name, "w", force_zip64=True) as member:
                for _ in range(900 if "/data/0" in name else 0):
                    member.write(bytes(2**20))
                member.write(source.read(name))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "name", "command", "line"),
    [
        (asks_for_16_gb, "m.onnx", ("detect", "a.png", "--runtime", "openvino", "--model"), "bad_alloc"),
        (unpacks_to_a_gb, "m.pt", ("import-weights",), "not enough memory"),
    ],
)
def test_a_model_that_asks_for_all_memory(tmp_path: Path, make, name: str, command, line: str) -> None:  # type: ignore[no-untyped-def]
    """Before: it got it; on a small machine the kernel then chose what to kill."""
    make(tmp_path / name)
    Image.new("L", (64, 64)).save(tmp_path / "a.png")
    called = [sys.executable, "-c", SMALL_MACHINE, *command, str(tmp_path / name)]
    done = subprocess.run(called, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (1, 2) and line in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert int(done.stderr.split()[-1]) >= 500, "the kernel would take another program's memory first"


def sparse(path: Path) -> Path:
    """6 GB of zeros, which take 4 KB on the disk, and in a tar of somebody's."""
    path.touch()
    os.truncate(path, 6 * 2**30)
    return path


@pytest.mark.slow
def test_text_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Before: read whole, 2.5 GB and on."""
    with pytest.raises(AnnotationError, match=r"a\.txt: cannot be read \(larger than 64 MB"):
        read_annotations(sparse(tmp_path / "a.txt"))
    with pytest.raises(ModelError, match=r"card\.json: .*larger than 1 MB"):
        read_card(sparse(tmp_path / "card.json"))
    with pytest.raises(EvaluateError, match=r"r\.jsonl:1: not a record"):
        read_results(sparse(tmp_path / "r.jsonl"))
    with pytest.raises(ModelError, match=r"a\.txt: the list of characters .*larger than 1 MB"):
        _text(tmp_path / "a.txt")
    with pytest.raises(OnnxImportError, match="larger than 1024 MB"):
        read_onnx(sparse(tmp_path / "m.onnx"))
    monkeypatch.setenv("OCRFLEET_TUNE_FILE", str(sparse(tmp_path / "tune.json")))
    with caplog.at_level("WARNING", "detector"):
        assert tuned("0" * 64, 640) is None
    assert "tune.json: cannot be read (larger than 1 MB)" in caplog.text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"image": "a.png", "boxes": [{"points": [[1%s, 0], [1, 0], [1, 1], [0, 1]]}]}' % (b"0" * 400), ":1: not a"),
        (b'{"image": "a.png", "boxes": [{"points": [[NaN, 0], [1, 0], [1, 1], [0, 1]]}]}', ":1: .*not finite"),
        (b'{"image": "a.png", "boxes": [{"points": [[1e999, 0], [1, 0], [1, 1], [0, 1]]}]}', ":1: .*not finite"),
        (b'{"image": "\xe9.png", "boxes": []}', "not UTF-8"),
        (b"\x1f\x8b\x08\x00", "not UTF-8"),
    ],
)
def test_results_of_a_stranger(tmp_path: Path, line: bytes, reason: str) -> None:
    """Before: tracebacks."""
    (tmp_path / "r.jsonl").write_bytes(line + b"\n")
    with pytest.raises(EvaluateError, match=rf"r\.jsonl{reason}" if reason[0] == ":" else rf"r\.jsonl: {reason}"):
        read_results(tmp_path / "r.jsonl")


def holds_itself() -> dict[str, object]:
    state: dict[str, object] = {}
    state["model"] = state["state_dict"] = state
    return state


STEM, LATERAL = "backbone.conv1.weight", "fpn.lat.0.weight"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (holds_itself(), "holds no weights"),
        ({STEM: torch.zeros(4, 3).to_sparse()}, "not plain weights: backbone.conv1.weight is of torch.float32"),
        ({STEM: torch.zeros(4, dtype=torch.complex64)}, "not plain weights"),
        ({STEM: torch.zeros(4, dtype=torch.bool)}, "not plain weights"),
        ({STEM: torch.zeros(4, device="meta")}, "not plain weights"),
        ({STEM: torch.zeros(1).expand(9, 9)}, "not plain weights: backbone.conv1.weight says more numbers than it has"),
    ],
)
def test_checkpoints_of_a_stranger(tmp_path: Path, content: dict[str, object], line: str) -> None:
    """Before: tracebacks, one of them of a thousand levels."""
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(ImportWeightsError, match=rf"m\.pt: {line}"):
        read_foreign(tmp_path / "m.pt")


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ({LATERAL: torch.zeros(()), "layer1.0.conv1.weight": torch.zeros(())}, "is a single number"),
        ({LATERAL: torch.zeros(3, 3).to_sparse(), "layer1.0.conv1.weight": torch.zeros(3)}, "not plain weights"),
        (
            {LATERAL: torch.zeros(1).half().expand(1 << 20, 1 << 26)},
            "says more numbers than it has",
        ),  # 256 TiB of floats
    ],
)
def test_weights_of_a_stranger_that_claim_to_be_ours(tmp_path: Path, state: dict[str, torch.Tensor], line: str) -> None:
    torch.save(state, tmp_path / "m.pt")
    with pytest.raises(ModelError, match=rf"m\.pt: .*{line}"):
        load_network(tmp_path / "m.pt")
