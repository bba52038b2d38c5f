"""Training by the clock: added norms, crops of other processes, the pool, turns, and a run that goes on."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from detector.errors import ModelError
from detector.evaluation.annotations import read_split
from detector.network.build import build_network, network_from_state
from detector.network.dbnet import DBNet
from detector.training.dataset import page_from_sample
from detector.training.losses import LossWeights, balanced_bce, db_loss, sampled_bce
from detector.training.parallel import crop_workers
from detector.training.parallel.__main__ import parse
from detector.training.parallel.clock import Clock, restore, run_by_clock, save, takes_part
from detector.training.parallel.crop_pool import CropPool
from detector.training.parallel.crop_workers import CropWorkerError, CropWorkers, HeldGroup, hold
from detector.training.parallel.mean import mean_of
from detector.training.parallel.norms import ConvNorm, add_norms, folded_state
from detector.training.parallel.student import Pace, Student
from tests.detector.training.pages import make_pages

CROP = 64


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> list[HeldGroup]:
    folder = make_pages(tmp_path_factory.mktemp("pages") / "set", 4, side=96)
    return hold([(1.0, [page_from_sample(sample) for sample in read_split(folder, "train")])], threads=2)


@pytest.fixture
def workers(groups: list[HeldGroup]) -> Iterator[CropWorkers]:
    with CropWorkers(groups, CROP, workers=2, seed=0) as running:
        yield running


@pytest.fixture
def pool(workers: CropWorkers) -> CropPool:
    return CropPool(workers, 32, CROP, torch.device("cpu"), seed=0)


def small_network(backbone: str = "resnet18") -> DBNet:
    torch.manual_seed(0)
    return build_network(backbone, width=8)


def test_added_norms_begin_as_the_identity_and_fold_away() -> None:
    network, image = small_network().eval(), torch.rand(2, 3, 64, 64)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        before = network(image)
        add_norms(network)
        added = [name for name, module in network.named_modules() if isinstance(module, ConvNorm)]
        network.train().logits(image)  # sets the norms; layer4's own BatchNorm sees a batch, too
        for name, module in network.named_modules():
            if isinstance(module, torch.nn.BatchNorm2d) and not name.endswith(tuple(f"{n}.bn" for n in added)):
                module.running_mean, module.running_var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        assert torch.allclose(network.eval()(image), before, atol=1e-4)
        for module in network.modules():
            if isinstance(module, ConvNorm):  # as if it had learnt
                module.bn.weight.mul_(1.1)
                module.bn.bias.add_(0.01)
        learnt = network(image)
        folded = network_from_state(folded_state(network)).eval()
    assert len(added) == 16 and set(folded.state_dict()) == set(state)
    assert not torch.allclose(learnt, before, atol=1e-3)
    assert torch.allclose(folded(image), learnt, atol=1e-4)


def test_pyramid_and_heads_get_no_norms() -> None:
    network = small_network()
    add_norms(network)
    assert not any(
        isinstance(module, ConvNorm) for part in (network.fpn, network.head, network.thr) for module in part.modules()
    )


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2])
def test_the_sampled_loss_is_near_the_sorted_one(share: float) -> None:
    torch.manual_seed(3)
    target = (torch.rand(4, 256, 256) < share).float()
    logits, weight = torch.randn(4, 256, 256) + 2 * target, (torch.rand(4, 256, 256) < 0.9).float()
    exact, sampled = float(balanced_bce(logits, target, weight)), float(sampled_bce(logits, target, weight))
    assert abs(sampled - exact) < 0.03 * exact


class Values(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what asks for a tensor's value: on a GPU the trainer then waits for the step, and none can be recorded."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asked: list[str] = []

    def __torch_dispatch__(
        self, call: Any, types: Any, positional: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        if "_local_scalar_dense" in str(call) or "nonzero" in str(call):
            self.asked.append(str(call))
        return call(*positional, **named or {})


@pytest.mark.slow
@pytest.mark.parametrize(("bce", "waits"), [(sampled_bce, False), (balanced_bce, True)])
def test_the_sampled_loss_waits_for_no_value(bce: Callable[..., Tensor], waits: bool) -> None:
    """Before: it took one number from the sample by an index that is a tensor, and waited for it in each step."""
    probability, threshold = (torch.randn(1, 32, 32, requires_grad=True) for _ in range(2))
    target, weight, height, band = torch.rand(4, 1, 32, 32).unbind(0)
    with Values() as values:
        loss, _ = db_loss(probability, threshold, target, weight, height, band, LossWeights(), bce)
        loss.backward()  # type: ignore[no-untyped-call]
    assert bool(values.asked) is waits


def test_rates_fall_with_the_time_and_begin_softly() -> None:
    clock = Clock(100.0)
    assert clock.rate(0.0, 0) == pytest.approx(1 / 200)
    assert clock.rate(0.0, 1000) == pytest.approx(1.0)
    assert clock.rate(50.0, 1000) == pytest.approx(0.5025)
    assert clock.rate(120.0, 1000) == pytest.approx(0.005)
    assert Clock(100.0, before=50.0).rate(0.0, 1000) == clock.rate(50.0, 1000)


def test_the_first_student_always_takes_part_and_the_others_by_turns() -> None:
    assert [[takes_part(place, step, 3) for place in range(3)] for step in range(3)] == [
        [True, False, False],
        [True, True, False],
        [True, False, True],
    ]


@pytest.mark.slow
def test_crops_of_all_workers_come_with_their_targets(workers: CropWorkers) -> None:
    seen: set[int] = set()
    ends = time.monotonic() + 60
    while seen != {0, 1}:  # on a busy machine one process may begin long before the other
        assert time.monotonic() < ends, seen
        slot, images, targets = workers.take()
        seen.add(slot // crop_workers.SLOTS)
        assert images.shape == (8, CROP, CROP, 3) and targets.shape == (8, 4, CROP, CROP)
        assert targets[:, 1].max() == 255 and set(np.unique(targets[:, 3])) <= {0, 255}
        workers.give_back(slot)


@pytest.mark.slow
def test_a_batch_of_the_pool_is_normalised_and_lit(pool: CropPool) -> None:
    pool.wait(16)
    batch = pool.batch(8)
    assert batch.image.shape == (8, 3, CROP, CROP) and batch.targets.shape == (8, 4, CROP, CROP)
    assert float(batch.targets.min()) >= 0 and float(batch.targets.max()) <= 1
    assert float(batch.image.min()) > -2.2 and float(batch.image.max()) < 2.7


@dataclass(frozen=True)
class Unreadable:
    """A page whose drawing raises."""

    page: None = None
    pixels: None = None


def test_a_page_that_cannot_be_drawn_ends_the_run(capfd: pytest.CaptureFixture[str]) -> None:
    with CropWorkers([HeldGroup(1.0, [Unreadable()])], CROP, 1, 0) as failing:  # type: ignore[list-item]
        broken = CropPool(failing, 16, CROP, torch.device("cpu"), 0)
        with pytest.raises(CropWorkerError, match="draws crops"):
            broken.wait(8)
    assert "AttributeError" in capfd.readouterr().err


@pytest.mark.slow
def test_a_killed_worker_is_noticed(workers: CropWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    for process in workers.processes:
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    with pytest.raises(CropWorkerError, match="draws crops"):
        while True:
            workers.take()


def students(pool: CropPool) -> list[Student]:
    pool.wait(16)
    state, crops = small_network("mobilenet_v3_small").state_dict(), pool.batch(2).image
    return [Student(name, state, Pace(1e-3, 0.5), crops, 0.99) for name in ("one", "other")]


def test_a_run_learns_saves_and_goes_on(pool: CropPool, tmp_path: Path) -> None:
    pair, said = students(pool), list[str]()
    before = {key: value.clone() for key, value in pair[0].weights().items()}
    steps = run_by_clock(pair, pool, 2, Clock(1.0), tmp_path, said.append)
    assert steps[pair[0].name] >= 1 and steps[pair[1].name] == steps[pair[0].name] // 2
    assert any(not torch.equal(before[key], value) for key, value in pair[0].weights().items())
    assert all(math.isfinite(value) for value in pair[0].means().values())
    again = students(pool)
    assert restore(again, tmp_path) == 1.0
    assert again[0].steps == steps[pair[0].name]
    restored = again[1].weights()
    for key, value in pair[1].weights().items():
        assert torch.equal(value, restored[key])
    assert run_by_clock(again, pool, 2, Clock(1.0, before=1.0), tmp_path, said.append) == steps


def test_a_run_of_other_models_is_refused(pool: CropPool, tmp_path: Path) -> None:
    pair = students(pool)
    save(pair, 0.5, tmp_path)
    with pytest.raises(Exception, match=r"clock\.pt: a run of other models"):
        restore(pair[:1], tmp_path)


def test_the_mean_of_two_models_has_statistics_of_its_own() -> None:
    one, crops = small_network().state_dict(), [torch.rand(2, 3, 64, 64) for _ in range(3)]
    other = {key: value * 3 if value.is_floating_point() else value for key, value in one.items()}
    mean = mean_of(one, other, crops)
    key = "fpn.lat.0.weight" if "fpn.lat.0.weight" in mean else next(name for name in mean if name.endswith("weight"))
    assert torch.allclose(mean[key], one[key] * 2)
    running = [name for name in mean if name.endswith("running_mean")]
    assert running and all(not torch.allclose(mean[name], one[name] * 2) for name in running)
    again = mean_of(one, other, crops)
    assert all(torch.equal(value, again[name]) for name, value in mean.items())
    with pytest.raises(ModelError, match="different networks"):
        mean_of(one, small_network("mobilenet_v3_small").state_dict(), crops)


def test_the_command_line_names_models_once(tmp_path: Path) -> None:
    words = [str(tmp_path), str(tmp_path), "--model", "dbnet-resnet18-slim", "--model", "dbnet-resnet18-slim"]
    assert parse(words).model == ["dbnet-resnet18-slim"]
    assert parse(words[:2]).model == ["dbnet-resnet18"]
