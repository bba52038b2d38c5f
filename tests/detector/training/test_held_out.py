"""What stays out of training, and how a long run is looked at and handed on."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from detector.errors import ModelError
from detector.thresholds import Thresholds
from detector.training import line_level
from detector.training.dataset import BatchSource, page_from_sample
from detector.training.held_out import NEAR, SOURCES, blocks, file_number, is_held_out, split_series
from detector.training.recipe.checkpoint import checkpoint_step, main, write_checkpoint
from detector.training.recipe.data_mix import FAVOURED, LABELLED, UNLABELLED, collect, images_in, source_weights
from detector.training.recipe.trend import agreement_photos, agreement_samples, make_trend
from detector.training.release import sources
from detector.training.teacher import Teacher
from detector.training.trainer import Phase, TrainConfig, Trainer
from tests.detector.tiny_model import write_tiny_model
from tests.detector.training.pages import make_pages


def test_blocks_are_neighbours_and_spread_evenly() -> None:
    numbers = list(range(1000, 1600, 2))
    held = sorted(blocks(numbers))
    assert len(held) == 90
    assert sum(later - earlier > 2 for earlier, later in pairwise(held)) == 4, "five blocks without holes"
    assert not blocks([1, 2, 3])


def test_nothing_near_a_held_out_photo_is_trained_on(tmp_path: Path) -> None:
    make_pages(tmp_path / "td500", 60)
    for kind, ending in (("images", "png"), ("gts", "txt")):
        (tmp_path / f"td500/val_{kind}").mkdir()
        for number, file in enumerate(sorted((tmp_path / f"td500/train_{kind}").iterdir())):
            split = "val" if number % 10 == 5 else "train"
            file.rename(tmp_path / f"td500/{split}_{kind}/IMG_{number * 2:04}.{ending}")
    (tmp_path / "td500/train_list.txt").unlink(missing_ok=True)
    kept, held, by_block = split_series(tmp_path / "td500")
    numbers = [file_number(sample.image, -1) for sample in held]
    assert len(held) == 20 and [len(block) for block in by_block] == [4] * 5
    assert any(sample.image.parent.name == "val_images" for sample in held)
    assert all(sample.image.parent.name == "train_images" for sample in kept), "the val split is for reports"
    assert min(abs(file_number(one.image, -1) - other) for one in kept for other in numbers) > NEAR


def test_a_source_is_wholly_in_or_out(tmp_path: Path) -> None:
    for name in ("SVT_0001.webp", "SVT_0156.webp", "shopsign_0001.webp", "mtwi_02.webp", "mtwi_04.webp"):
        (tmp_path / name).touch()
    assert [file.name for file in images_in(tmp_path)] == ["mtwi_04.webp", "shopsign_0001.webp"]
    assert is_held_out(tmp_path / "SVT_0001.webp") and not SOURCES & FAVOURED


def test_large_sources_do_not_drown_small_ones() -> None:
    shares = source_weights({"shops": 400, "posters": 25, "demo": 25})
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["shops"] == pytest.approx(4 * shares["posters"])
    assert shares["demo"] == pytest.approx(2 * shares["posters"]), "favoured"


def test_the_mix_takes_what_has_a_map(tmp_path: Path) -> None:
    folder = make_pages(tmp_path / "spare", 4) / "train_images"
    scenes = tmp_path / "data/scenes"
    scenes.mkdir(parents=True)
    for file, name in zip(sorted(folder.iterdir()), ("SVT_1", "demo_1", "demo_2", "shop_1"), strict=True):
        file.rename(scenes / f"{name}{file.suffix}")
    run, teacher = tmp_path / "run", Teacher(write_tiny_model(tmp_path / "teacher.onnx"), threads=1)
    assert collect(tmp_path / "data", run, None, 0) == []
    ((weight, pages),) = collect(tmp_path / "data", run, teacher, 0)  # few images: one group
    assert weight == UNLABELLED["scenes"].weight and len(pages) == 3
    pages[0].image.unlink()
    assert [len(pages) for _, pages in collect(tmp_path / "data", run, None, 0)] == [2]

    assert make_trend(tmp_path / "data", run, None, Thresholds()) is None
    trend = make_trend(tmp_path / "data", run, teacher, Thresholds())
    assert trend and len(trend.unlabelled) == 1 and not trend.photos
    network = Trainer(TrainConfig(1, (Phase(1.0, 64, 1),), width=16, amp=False)).network
    assert "agreement @640 0.0" in trend.line(network) and network.training
    (sample,) = agreement_samples(agreement_photos(tmp_path / "data", run, None))
    assert sample.image.name == "SVT_1.jpg" and all(not region.ignore for region in sample.regions())


def test_a_run_is_handed_on_in_a_small_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = TrainConfig(6, (Phase(1.0, 64, 1),), width=16, amp=False, warmup=2, lr=1e-3, cooldown=1.0)
    trainer = Trainer(config)
    samples = line_level.read_split(make_pages(tmp_path / "data", 2), "train")
    list(trainer.run(BatchSource([(1.0, [page_from_sample(sample) for sample in samples])], 0), until=3))
    trainer.save(tmp_path / "last.pt")
    target = tmp_path / "checkpoints/small.safetensors"
    assert write_checkpoint(tmp_path, target) == checkpoint_step(target) == 3
    for key, value in load_file(target).items():
        assert torch.allclose(value.float(), trainer.average.state_dict()[key].float(), atol=1e-2, rtol=1e-3)
    other = TrainConfig(6, config.phases, warmup=2, lr=1e-3, cooldown=1.0, first=3)
    assert Trainer(other, dict(load_file(target))).step == 3
    assert other.rate_at(3) == pytest.approx(config.rate_at(3) / 2), "warms up again"
    assert other.rate_at(5) == config.rate_at(5)

    assert main([str(tmp_path), str(target)]) == 0
    assert "step 3" in capsys.readouterr().out
    assert main([str(tmp_path / "nowhere"), str(target)]) == 2
    torch.save({}, tmp_path / "last.pt")
    assert main([str(tmp_path), str(target)]) == 2
    assert "not a checkpoint" in capsys.readouterr().err
    (tmp_path / "plain.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"plain\.safetensors: not a checkpoint"):
        checkpoint_step(tmp_path / "plain.safetensors")


def test_a_run_goes_on_from_such_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[str] = []  # how a release is made: test_line_level.py
    monkeypatch.setattr(line_level, "finish", lambda model, *rest: released.append(model))
    begun = Trainer(TrainConfig(6, (Phase(1.0, 64, 1),), backbone="mobilenet_v3_small", amp=False))
    samples = line_level.read_split(make_pages(tmp_path / "data/td500", 2), "train")
    list(begun.run(BatchSource([(1.0, [page_from_sample(sample) for sample in samples])], 0), until=4))
    begun.save(tmp_path / "last.pt")
    small = tmp_path / "small.safetensors"
    write_checkpoint(tmp_path, small)
    teacher = write_tiny_model(tmp_path / "teacher.onnx")
    words = ["--teacher", str(teacher), "--steps", "6", "--phases", "1:64x1", "--synthetic", "0", "--device", "cpu"]
    words += ["--model", "dbnet-mobilenet-v3-small"]
    assert line_level.main([str(tmp_path / "data"), str(tmp_path / "run"), *words, "--go-on", str(small)]) == 0
    said = capsys.readouterr().out
    assert "6/6" in said and "1/6" not in said
    assert released == ["dbnet-mobilenet-v3-small"]


def test_a_card_can_name_whatever_is_trained_on() -> None:
    """Before: after hours of training the release ended with KeyError: 'lines/mtwi'."""
    everything = dict.fromkeys([*LABELLED, *UNLABELLED, "synthetic"], 7)
    assert len(sources(everything)) == len(everything) + 1  # and the teacher
