"""Every backbone, from random weights to boxes: trained once, exported in all sizes, quantized, run everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from shapely import Polygon

from detector.convert.benchmark import hmean
from detector.convert.export import export_onnx
from detector.convert.quantize import quantize_static
from detector.evaluation.annotations import Sample, read_split
from detector.network.build import BACKBONES, load_network, save_half
from detector.network.dbnet import DBNet
from detector.postprocess import Box
from detector.predictor import TextDetector
from detector.runtimes.torch import TorchRuntime
from detector.training import dataset
from detector.training.dataset import BatchSource, page_from_sample
from detector.training.trainer import Phase, TrainConfig, Trainer
from detector.training.validate import validate
from tests.detector.cheap import compare_small
from tests.detector.training.pages import make_pages

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # the training is in the first test's setup
]
SIDE = 128
SIZES = [(352, 640), (320, 320), (800, 800), (1536, 352)]
CHEAPEST = "mobilenet_v3_small"
RECIPES = {  # width of the pyramid, steps, learning rate: from random weights
    "resnet18": (32, 50, 3e-3),
    "mobilenet_v3_small": (48, 65, 3e-3),
    "shufflenet_v2_x1_0": (48, 60, 3e-3),
}


@dataclass(frozen=True)
class Learnt:
    """A network that has learnt four pages by heart, and its files."""

    network: DBNet
    data: Path
    samples: list[Sample]
    weights: Path
    model: Path


@pytest.fixture(scope="module", params=BACKBONES)
def learnt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Learnt]:
    folder = tmp_path_factory.mktemp(request.param)
    data = make_pages(folder / "data", 4, side=SIDE)
    samples = read_split(data, "train")
    width, steps, rate = RECIPES[request.param]
    config = TrainConfig(
        steps=steps,
        phases=(Phase(1.0, SIDE, 2),),
        backbone=request.param,
        width=width,
        lr=rate,
        trunk_lr=1.0,
        cooldown=0.5,
        warmup=10,
        ema=0.9,
        amp=False,
        seed=1,
    )
    trainer = Trainer(config)
    with pytest.MonkeyPatch.context() as patch:
        # The pages as they are: what is asked is whether the network can learn them, not whether it generalises.
        patch.setattr(dataset, "choose_matrix", lambda *arguments: np.eye(2, 3))
        patch.setattr(dataset, "change_look", lambda rng, picture: picture)
        for _ in trainer.run(BatchSource([(1.0, [page_from_sample(sample) for sample in samples])], seed=0)):
            pass
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        weights, model = folder / "learnt.safetensors", folder / "learnt.fp32.onnx"
        save_half(trainer.average.state_dict(), weights)
        network = load_network(weights)
        compare_small(patch)
        export_onnx(network, model, (320, 320), dynamic=True)
        yield Learnt(network, data, samples, weights, model)


def test_learns_four_pages_by_heart(learnt: Learnt) -> None:
    assert validate(learnt.network, learnt.samples, SIDE).hmean > 0.95


def test_exports_at_every_size(learnt: Learnt, tmp_path: Path) -> None:
    """All sizes by the cheapest network: what a size may break is the pyramid, which all of them have."""
    for size in SIZES if learnt.network.backbone == CHEAPEST else SIZES[:1]:
        parities = export_onnx(learnt.network, tmp_path / "m.onnx", size)
        assert {item.runtime for item in parities} == {"onnxruntime", "openvino"}
        assert all(item.size == size and item.difference < 1e-3 for item in parities)
        shape = onnx.load(str(tmp_path / "m.onnx")).graph.input[0].type.tensor_type.shape.dim
        assert [dim.dim_value for dim in shape] == [1, 3, *size]


def test_dynamic_export_takes_any_size_and_batch(learnt: Learnt) -> None:
    session = onnxruntime.InferenceSession(str(learnt.model), providers=["CPUExecutionProvider"])
    batch = np.random.default_rng(1).standard_normal((2, 3, 96, 224), dtype=np.float32)
    (found,) = session.run(["probability"], {"image": batch})
    with torch.inference_mode():
        assert np.abs(found - learnt.network(torch.from_numpy(batch)).numpy()).max() < 1e-3


def test_int8_still_knows_them(learnt: Learnt, tmp_path: Path) -> None:
    small = tmp_path / "learnt.int8.onnx"
    quantize_static(learnt.model, small, [sample.image for sample in learnt.samples], limit_side=SIDE)
    assert small.stat().st_size < 0.4 * learnt.model.stat().st_size
    assert hmean(small, learnt.data, "train", SIDE) > 0.9


def test_the_same_boxes_in_all_runtimes(learnt: Learnt) -> None:
    by_onnxruntime = TextDetector(learnt.model, runtime="onnxruntime", limit_side=SIDE)
    by_openvino = TextDetector(learnt.model, runtime="openvino", limit_side=SIDE)
    by_torch = TextDetector(learnt.weights, runtime="torch", limit_side=SIDE)
    by_torch._runtime = TorchRuntime(learnt.weights, precision="fp32")
    assert by_openvino.info.runtime == "openvino-fp32"
    found = 0
    for sample in learnt.samples:
        expected = by_onnxruntime.detect(sample.image).boxes
        found += len(expected)
        for other in (by_openvino, by_torch):
            assert_matched(expected, other.detect(sample.image).boxes)
    # Not each: what is learnt differs a little from one kind of CPU to the next.
    assert found >= 0.9 * sum(len(sample.regions()) for sample in learnt.samples)


def assert_matched(one: list[Box], other: list[Box]) -> None:
    assert len(one) == len(other)
    for box in one:
        assert max(overlap(box, candidate) for candidate in other) > 0.95


def overlap(one: Box, other: Box) -> float:
    first, second = Polygon(one.points), Polygon(other.points)
    return first.intersection(second).area / first.union(second).area
