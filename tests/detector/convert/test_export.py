import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from detector.convert.benchmark import measure
from detector.convert.export import ExportError, check_side, compare, export_onnx
from detector.convert.quantize import (
    QuantizeError,
    calibration_batches,
    fixed_size,
    quantize_dynamic,
    quantize_static,
    spread,
)
from detector.images.page import open_page
from detector.network.build import BACKBONES, build_network
from detector.network.dbnet import DBNet
from detector.predictor import TextDetector
from tests.detector.cheap import compare_small
from tests.detector.convert.test_quantized_weights import MOST_SUM, largest_sum
from tests.detector.tiny_model import write_tiny_model
from tests.detector.training.pages import make_pages


def lively(backbone: str, width: int = 16) -> DBNet:
    """A small network whose BatchNorms are not the identity and whose map is not all one value."""
    torch.manual_seed(0)
    network = build_network(backbone, width=width)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lively network at 320 px, once. All backbones: `test_dynamic_export_is_the_same_network`."""
    model = tmp_path_factory.mktemp("exported") / "m.onnx"
    export_onnx(lively("mobilenet_v3_small"), model, (320, 320))
    return model


@pytest.mark.parametrize(("side", "nearest"), [(801, 800), (300, 320), (1600, 1536), (0, 320), (-5, 320)])
def test_bad_sides_are_refused_naming_the_nearest(side: int, nearest: int) -> None:
    with pytest.raises(ExportError, match=f"nearest is {nearest}$"):
        check_side(side)
    assert check_side(nearest) == nearest


@pytest.mark.parametrize("backbone", BACKBONES)
def test_dynamic_export_is_the_same_network(tmp_path: Path, backbone: str) -> None:
    parities = export_onnx(lively(backbone), tmp_path / "m.onnx", (320, 320), dynamic=True)
    assert {(320, 320), (640, 480)} <= {item.size for item in parities}
    assert max(item.difference for item in parities) < 1e-3
    graph = onnx.load(str(tmp_path / "m.onnx")).graph
    assert not [node for node in graph.node if node.op_type == "BatchNormalization"]
    assert not [weight.name for weight in graph.initializer if weight.name.startswith("thr.")]


def test_fixed_and_half_exports(tmp_path: Path) -> None:
    network = lively("mobilenet_v3_small")
    (fixed, *_) = export_onnx(network, tmp_path / "f.onnx", (320, 352))
    assert fixed.size == (320, 352)
    export_onnx(network, tmp_path / "h.onnx", (320, 320), half=True)
    assert (tmp_path / "h.onnx").stat().st_size < 0.6 * (tmp_path / "f.onnx").stat().st_size


def test_another_network_is_noticed_and_not_written(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = lively("mobilenet_v3_small")
    shutil.copy(exported, tmp_path / "a.onnx")
    torch.manual_seed(1)
    assert max(p.difference for p in compare(lively("mobilenet_v3_small"), tmp_path / "a.onnx", [(320, 320)])) < 1e-3
    network.head[3].bias.data += 0.5  # type: ignore[union-attr, operator]
    assert max(p.difference for p in compare(network, tmp_path / "a.onnx", [(320, 320)])) > 1e-3
    monkeypatch.setattr("detector.convert.export.TOLERANCE", -1.0)
    with pytest.raises(ExportError, match=r"b\.onnx: not written, .* differs from torch"):
        export_onnx(network, tmp_path / "b.onnx", (320, 320))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.onnx"]


def test_a_broken_graph_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good.onnx").write_bytes(b"what was there before")
    write = torch.onnx.export

    def break_one_weight(network: DBNet, example: object, path: str, **options: object) -> None:
        write(network, example, path, **options)  # type: ignore[arg-type]
        model = onnx.load(path)
        weight = next(item for item in model.graph.initializer if item.name == "head.3.weight")
        values = onnx.numpy_helper.to_array(weight).copy()
        values[0] += 0.02
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save(model, path)

    monkeypatch.setattr(torch.onnx, "export", break_one_weight)
    with pytest.raises(ExportError, match=r"good\.onnx: not written, .* differs from torch by .* \(at most 0.001\)"):
        export_onnx(lively("mobilenet_v3_small"), tmp_path / "good.onnx", (320, 320))
    assert (tmp_path / "good.onnx").read_bytes() == b"what was there before"
    assert [file.name for file in tmp_path.iterdir()] == ["good.onnx"]


@pytest.mark.parametrize("opset", [13, 20])
def test_oldest_and_newest_opset(tmp_path: Path, opset: int) -> None:
    export_onnx(lively("mobilenet_v3_small"), tmp_path / "m.onnx", (320, 320), opset=opset)
    assert [item.version for item in onnx.load(str(tmp_path / "m.onnx")).opset_import] == [opset]


@pytest.mark.slow
def test_a_fixed_size_quantizes(tmp_path: Path) -> None:
    export_onnx(lively("mobilenet_v3_small"), tmp_path / "m.onnx", (320, 352))
    assert fixed_size(tmp_path / "m.onnx") == (320, 352)
    pages = sorted((make_pages(tmp_path / "data", 2, side=400) / "train_images").iterdir())
    (batch, _) = [batch["image"] for batch in calibration_batches(pages, 640, size=(320, 352))]
    assert batch.shape == (1, 3, 320, 352) and not batch[:, :, :, 320:].any() and batch[:, :, :, :320].any()
    quantize_static(tmp_path / "m.onnx", tmp_path / "m.int8.onnx", pages)
    assert fixed_size(tmp_path / "m.int8.onnx") == (320, 352)
    assert measure(tmp_path / "m.int8.onnx").milliseconds > 0


def test_int8_is_small_near_and_keeps_its_last_steps_float(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare_small(monkeypatch)
    network = lively("mobilenet_v3_small")
    export_onnx(network, tmp_path / "m.fp32.onnx", (320, 320), dynamic=True)
    pages = sorted((make_pages(tmp_path / "data", 4, side=320) / "train_images").iterdir())
    quantize_static(tmp_path / "m.fp32.onnx", tmp_path / "m.int8.onnx", pages, limit_side=320)
    model = onnx.load(str(tmp_path / "m.int8.onnx"))
    made_by = {output: node.op_type for node in model.graph.node for output in node.output}
    read_by: dict[str, list[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            read_by.setdefault(name, []).append(node.op_type)
    assert largest_sum(tmp_path / "m.int8.onnx") <= MOST_SUM
    (sigmoid,) = [node for node in model.graph.node if node.op_type == "Sigmoid"]
    assert made_by[sigmoid.input[0]] == "DepthToSpace"
    assert "QuantizeLinear" not in read_by[sigmoid.input[0]]
    kinds = {weight.name: weight.data_type for weight in model.graph.initializer}
    inputs = [name for node in model.graph.node if node.op_type == "QuantizeLinear" for name in node.input[2:3]]
    assert inputs and all(kinds[name] == onnx.TensorProto.UINT8 for name in inputs)
    # Calibrated on pages, so judged on a page (noise reaches far outside the calibrated ranges).
    (batch,) = [batch["image"] for batch in calibration_batches(pages[:1], 320)]
    full, small_one = (TextDetector(tmp_path / f"m.{kind}.onnx") for kind in ("fp32", "int8"))
    page = open_page(pages[0], limit_side=320).pixels
    assert batch.shape == (1, 3, 320, 320)
    assert np.abs(full.probability(page) - small_one.probability(page)).mean() < 0.03
    small, large = measure(tmp_path / "m.int8.onnx", 320), measure(tmp_path / "m.fp32.onnx", 320)
    assert small.megabytes < 0.35 * large.megabytes
    assert 20 < small.peak_mb < 1000 and small.milliseconds > 0


def test_dynamic_quantization_finds_nothing_in_a_dbnet(exported: Path, tmp_path: Path) -> None:
    assert quantize_dynamic(exported, tmp_path / "q.onnx") == 0


def test_calibration_needs_images_and_spreads_them(tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match="calibration"):
        quantize_static(tmp_path / "x.onnx", tmp_path / "y.onnx", [])
    names = [Path(str(number)) for number in range(100)]
    assert [int(str(name)) for name in spread(names, 4)] == [0, 33, 66, 99]
    assert spread(names[:3], 4) == names[:3]
    assert np.all(np.diff([int(str(name)) for name in spread(names, 60)]) > 0)


def test_a_model_that_is_killed_while_it_is_measured_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_model(tmp_path / "tiny.onnx")
    monkeypatch.setattr(
        "detector.convert.benchmark._PROBE", "import os; os.kill(os.getpid(), 9)"
    )  # as for want of memory
    with pytest.raises(QuantizeError, match="does not run: it ended with code -9"):
        measure(path)
