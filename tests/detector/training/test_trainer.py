import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from detector.errors import ModelError
from detector.evaluation.annotations import read_split
from detector.network.build import build_network
from detector.training.dataset import BatchSource, page_from_sample
from detector.training.trainer import Phase, TrainConfig, Trainer
from tests.detector.training.pages import make_pages

# The smallest network: what is asked of the trainer does not depend on it, and a ResNet has ten times the weights.
CONFIG = TrainConfig(
    steps=6,
    phases=(Phase(0.5, 64, 2), Phase(1.0, 96, 1)),
    backbone="mobilenet_v3_small",
    width=16,
    lr=1e-3,
    amp=False,
    warmup=2,
    ema=0.9,
)


@pytest.fixture
def source(tmp_path: Path) -> BatchSource:
    samples = read_split(make_pages(tmp_path / "data", 4), "train")
    return BatchSource([(1.0, [page_from_sample(sample) for sample in samples])], seed=3)


def test_batches_depend_on_the_step_alone(source: BatchSource) -> None:
    one, again, other = source.batch(5, 64, 2), source.batch(5, 64, 2), source.batch(6, 64, 2)
    assert torch.equal(one.image, again.image) and torch.equal(one.targets, again.targets)
    assert not torch.equal(one.image, other.image)
    assert one.image.shape == (2, 3, 64, 64) and one.targets.shape == (2, 4, 64, 64)
    assert one.targets.min() >= 0 and one.targets.max() <= 1


# An interrupt can leave the stream open in a traceback that nobody drops.
LEFT_OPEN = """
import sys
from pathlib import Path
from detector.evaluation.annotations import read_split
from detector.training.dataset import BatchSource, page_from_sample

pages = [page_from_sample(sample) for sample in read_split(Path(sys.argv[1]), "train")]
stream = BatchSource([(1.0, pages)], 0).stream([(step, 64, 4) for step in range(10_000)])
next(stream)
"""


@pytest.mark.slow
def test_a_stream_left_open_does_not_abort_the_process(tmp_path: Path) -> None:
    """Its thread was inside torch while Python ended: "terminate called without an active exception", four of six."""
    folder = make_pages(tmp_path / "data", 4)
    ended = subprocess.run([sys.executable, "-c", LEFT_OPEN, folder], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    "changes", [{"optimizer": "adamw"}, {"optimizer": "sgd"}, {"hint": 1.0}], ids=["adamw", "sgd", "hint"]
)
def test_a_resumed_run_equals_an_unbroken_one(source: BatchSource, tmp_path: Path, changes: dict[str, Any]) -> None:
    config = replace(CONFIG, schedule="poly", **changes)
    teacher_network = build_network(CONFIG.backbone, width=16)
    unbroken = Trainer(config, teacher_network=teacher_network)
    losses = [progress.loss for progress in unbroken.run(source)]
    broken = Trainer(config, teacher_network=teacher_network)
    for progress in broken.run(source):
        if progress.step == 3:
            broken.save(tmp_path / "last.pt")
            break
    resumed = Trainer(replace(config, seed=99), teacher_network=teacher_network)
    resumed.restore(tmp_path / "last.pt")
    assert [progress.loss for progress in resumed.run(source)] == losses[3:]
    found = resumed.average.state_dict()
    for key, value in unbroken.average.state_dict().items():
        assert torch.equal(value, found[key]), key


def test_a_student_comes_nearer_to_its_teacher_network(source: BatchSource) -> None:
    teacher_network = build_network("mobilenet_v3_small", width=32)
    before = {key: value.clone() for key, value in teacher_network.state_dict().items()}
    phases = (Phase(1.0, 64, 2),)
    config = replace(CONFIG, backbone="mobilenet_v3_small", steps=24, phases=phases, lr=5e-3, hint=5.0, hint_until=0.75)
    trainer = Trainer(config, teacher_network=teacher_network)
    distances = [progress.terms.get("hint") for progress in trainer.run(source)]
    assert all(value is None for value in distances[18:])  # the teacher network has had its say
    said = [value for value in distances if value is not None]
    assert len(said) == 18 and sum(said[-5:]) < 0.85 * sum(said[:5])
    assert all(torch.equal(value, before[key]) for key, value in teacher_network.state_dict().items())
    assert not any("teacher" in key for key in trainer.average.state_dict())


def test_a_hint_needs_a_teacher_network() -> None:
    with pytest.raises(ValueError, match="teacher network"):
        Trainer(replace(CONFIG, hint=1.0))


def test_micro_batches_give_nearly_the_same_step(source: BatchSource) -> None:
    config = replace(CONFIG, steps=1, phases=(Phase(1.0, 64, 4),), freeze_norm=True)
    whole, parts = Trainer(config), Trainer(replace(config, micro_batch=2))
    (one,), (two,) = list(whole.run(source)), list(parts.run(source))
    # The loss normalises within what it sees, so the parts' mean is near, not equal.
    assert two.loss == pytest.approx(one.loss, rel=0.25)


def test_rates_rise_hold_and_fall() -> None:
    flat = replace(CONFIG, steps=1000, warmup=100, cooldown=0.4, lr=1.0)
    assert flat.rate_at(0) == pytest.approx(0.01) and flat.rate_at(500) == 1
    assert flat.rate_at(800) == pytest.approx(0.505, abs=0.01) and flat.rate_at(999) < 0.02
    poly = replace(flat, schedule="poly")
    assert poly.rate_at(500) == pytest.approx(0.5**0.9)
    assert (CONFIG.phase_at(2).crop, CONFIG.phase_at(3).crop) == (64, 96)


def test_a_strange_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match=r"x\.pt: not a checkpoint"):
        Trainer(CONFIG).restore(tmp_path / "x.pt")
    trainer = Trainer(CONFIG)
    trainer.save(tmp_path / "x.pt")
    content = torch.load(tmp_path / "x.pt", weights_only=True)
    for odd in ({"ema": {}}, {"optimizer": 5}, {"random": torch.ones(2)}, {"step": "x"}, {"notes": 1}, {"model": None}):
        torch.save({**content, **odd}, tmp_path / "x.pt")  # before: a traceback
        with pytest.raises(ModelError, match=r"x\.pt: a checkpoint of something else"):
            trainer.restore(tmp_path / "x.pt")


def test_overflowed_norm_statistics_heal(source: BatchSource) -> None:
    state = build_network(CONFIG.backbone, width=16).state_dict()
    state["head.1.running_var"][3] = float("inf")
    trainer = Trainer(replace(CONFIG, steps=2), state)
    list(trainer.run(source))
    for network in (trainer.network, trainer.average):
        assert all(value.isfinite().all() for value in network.state_dict().values())


# In a process of its own: what it did wrong would end the one of the tests without a word.
INTERRUPTED = """
import signal, sys, threading
from contextlib import closing
from pathlib import Path
from detector.evaluation.annotations import read_split
from detector.training.dataset import BatchSource, page_from_sample

whole = getattr(threading.Thread, sys.argv[2])
def interrupted(thread, *args):
    if sys.argv[2] == "start":
        whole(thread)
    signal.raise_signal(signal.SIGINT)
    if sys.argv[2] == "join":
        whole(thread, *args)

signal.signal(signal.SIGINT, signal.default_int_handler)
pages = [page_from_sample(sample) for sample in read_split(Path(sys.argv[1]), "train")]
setattr(threading.Thread, sys.argv[2], interrupted)
try:
    with closing(BatchSource([(1.0, pages)], 0).stream([(step, 64, 4) for step in range(99)])) as batches:
        next(batches)
except KeyboardInterrupt:
    print("interrupted", [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")])
"""


@pytest.mark.parametrize("at", ["start", "join"])
def test_ctrl_c_leaves_no_thread_that_draws(tmp_path: Path, at: str) -> None:
    """As when it comes while the thread is started or waited for: what stays is inside OpenCV when Python ends."""
    folder = make_pages(tmp_path / "data", 4)
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED, folder, at], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "interrupted []\n", "")


def test_errors_of_the_loader_reach_the_caller(source: BatchSource, tmp_path: Path) -> None:
    (next((tmp_path / "data/train_images").iterdir())).write_bytes(b"broken")
    with pytest.raises(Exception, match=r"\.png"):
        list(Trainer(replace(CONFIG, steps=30)).run(source, until=30))


def test_depthwise_convolutions_stay_in_fp32_and_the_others_do_not() -> None:
    network = Trainer(TrainConfig(2, (Phase(1.0, 64, 2),), backbone="mobilenet_v3_small")).network
    seen = dict[bool, set[torch.dtype]]()

    def look(layer: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        assert isinstance(layer, torch.nn.Conv2d)
        seen.setdefault(layer.groups > 1, set()).add(output.dtype)

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(look)
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.zeros(1, 3, 64, 64))
    assert seen == {True: {torch.float32}, False: {torch.bfloat16}}
