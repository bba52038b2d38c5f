"""`ocr-detector tune`, the file it writes, and what "auto" makes of it."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from detector.evaluation.isolated_run import (
    Ended,
    IsolatedRun,
    IsolatedRunError,
    TooMuchMemoryError,
    _Order,
    _work,
    run_isolated,
)
from detector.evaluation.tune import agreement, draw_pages, thread_counts
from detector.images.sizes import TILE
from detector.models import load_card
from detector.predictor import TextDetector
from detector.runtimes import tuned as tuned_runtime
from detector.runtimes.choice import auto_runtime
from detector.runtimes.tuned import Candidate, Tuning, best, machine_facts, tuned, tuning_file, write_tuning
from tests.detector.cli.test_detect import run
from worker.detection import ImageRunner
from worker.settings import read_settings

SHA = "ab" * 32


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OCRFLEET_TUNE_FILE", raising=False)
    tuned_runtime._note.cache_clear()
    yield
    tuned_runtime._note.cache_clear()


def way(runtime: str, threads: int, ms: float | None, peak: float = 100, agree: float = 1.0) -> Candidate:
    return Candidate(runtime, threads, ms, peak, agree)


def remember(sha256: str = SHA, limit_side: int = 640, *measured: Candidate, **facts: str) -> Path:
    rows = list(measured) or [way("onnxruntime", 1, 100), way("openvino", 1, 60), way("openvino", 2, 40)]
    write_tuning(tuning_file(), Tuning(sha256, limit_side, machine_facts() | facts, rows))
    return tuning_file()


def test_the_best_way_is_fast_enough_and_cheap() -> None:
    ways = [
        way("onnxruntime", 1, 100, 150),
        way("openvino", 1, 60, 200),
        way("openvino", 2, 42, 200),
        way("openvino", 4, 40, 210),  # hardly faster than two threads
        way("torch", 1, 30, 500, agree=0.5),  # other boxes
        way("torch", 2, None),
    ]
    chosen = best(ways)
    assert chosen is not None
    assert (chosen.runtime, chosen.threads) == ("openvino", 2)
    assert best(ways, threads=1) == ways[1]
    assert best(ways, threads=1, memory_limit_mb=180) == ways[0]
    assert best(ways, memory_limit_mb=100) is None
    assert best(ways, threads=3) is None
    assert best([way("onnxruntime", 1, 64, 150), way("openvino", 1, 60, 200)]) == way("onnxruntime", 1, 64, 150)
    assert best([way("abacus", 1, 1)]) is None


def test_what_was_written_is_found_again() -> None:
    assert tuned(SHA, 640) is None
    remember()
    found = tuned(SHA, 640)
    assert found is not None
    assert (found.runtime, found.threads) == ("openvino", 2)
    assert tuned(SHA, 640, threads=1) == way("openvino", 1, 60)
    assert tuned("cd" * 32, 640) is None
    remember(SHA, 640, way("onnxruntime", 1, 10))  # tuned again: the new one counts, and the old one is gone
    remember("cd" * 32, 640)
    assert tuned(SHA, 640) == way("onnxruntime", 1, 10)
    assert tuning_file().read_text().count(SHA) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a file of ocr-detector tune"),
        (b'{"format": 1, "tunings": [{"sha256": 5}]}', "not a file of ocr-detector tune"),
        (b"\xff\xfe", "not a file of ocr-detector tune"),
        (b'{"format": 9, "tunings": []}', "of another version (format 9)"),
    ],
)
def test_a_broken_file_means_the_default(content: bytes, says: str, caplog: pytest.LogCaptureFixture) -> None:
    tuning_file().parent.mkdir(parents=True)
    tuning_file().write_bytes(content)
    assert tuned(SHA, 640) is None
    assert tuned(SHA, 640) is None
    (line,) = caplog.messages  # once
    assert says in line
    assert "using the default runtime" in line
    assert "\n" not in line
    remember()
    assert tuned(SHA, 640) is not None


def test_a_stale_tuning_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    remember(SHA, 640, openvino="2020.1")
    assert tuned(SHA, 640) is None
    assert "made with openvino 2020.1, now" in caplog.messages[-1]
    remember(SHA, 960)
    assert tuned(SHA, 640) is None
    assert "not tuned for pages of 640 pixels" in caplog.messages[-1]
    assert tuned(SHA, 960, threads=7) is None
    assert "no runtime that ran with 7 threads" in caplog.messages[-1]
    assert tuned(SHA, 960, memory_limit_mb=50) is None
    assert "within 50 MiB" in caplog.messages[-1]
    remember(SHA, 960, way("abacus", 1, 1))
    assert tuned(SHA, 960) is None
    assert "holds no runtime that ran" in caplog.messages[-1]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_a_named_file_is_used_and_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OCRFLEET_TUNE_FILE", str(tmp_path / "shared.json"))
    assert tuned(SHA, 640) is None
    assert "shared.json: not found (OCRFLEET_TUNE_FILE)" in caplog.messages[-1]
    assert remember() == tmp_path / "shared.json"
    assert tuned(SHA, 640) is not None


@pytest.mark.slow
def test_auto_uses_the_tuned_runtime_and_a_named_runtime_wins(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sha256 = load_card(tiny_model).sha256
    assert TextDetector(tiny_model).info.runtime == "onnxruntime-fp32"
    remember(sha256)
    assert TextDetector(tiny_model).info.runtime == "openvino-fp32"
    remember(sha256, TILE)
    assert TextDetector(tiny_model, limit_side=1280, tiled=True).info.runtime == "openvino-fp32"
    assert TextDetector(tiny_model, runtime="onnxruntime").info.runtime == "onnxruntime-fp32"
    assert caplog.messages == []
    assert TextDetector(tiny_model, limit_side=960).info.runtime == "onnxruntime-fp32"
    assert "not tuned for pages of 960" in caplog.messages[-1]
    remember(sha256, 640, way("torch", 1, 5))  # cannot read an .onnx file
    assert TextDetector(tiny_model).info.runtime == "onnxruntime-fp32"
    assert "torch does not load" in caplog.messages[-1]


@pytest.mark.slow
def test_a_worker_uses_the_tuned_runtime_too() -> None:
    """And does not load before the fork what does not survive one."""
    environment = {"OCRFLEET_PROFILE": "low", "OCRFLEET_MEMORY_LIMIT_MB": "512"}
    runner = ImageRunner(read_settings(environment))
    assert runner.loads_before_fork()
    remember(load_card("dbnet-resnet18").sha256)
    assert not runner.loads_before_fork()
    assert runner.detector().info.runtime == "openvino-int8"
    explicit = ImageRunner(read_settings(environment | {"OCRFLEET_RUNTIME": "onnxruntime"}))
    assert explicit.loads_before_fork()
    assert explicit.detector().info.runtime == "onnxruntime-int8"
    options = {"threads": 1, "limit_side": 640, "tiled": False}
    assert auto_runtime("dbnet-resnet18", memory_limit=None, **options) == "openvino"
    assert auto_runtime("dbnet-resnet18", memory_limit=50 << 20, **options) == "onnxruntime"


def test_tune_measures_writes_and_detect_follows(tiny_model: Path, tmp_path: Path) -> None:
    common = ("--model", tiny_model, "--limit-side", 96, "--memory-limit-mb", 300)
    done = run("tune", *common, "--seconds", 0.01, "--threads", 1)
    assert done.returncode == 0, done.stderr
    heading, *rows = done.stdout.splitlines()
    assert heading.split() == ["runtime", "threads", "ms/page", "peak", "MiB", "same", "boxes"]
    assert [row.split()[0] for row in rows[:3]] == ["onnxruntime", "openvino", "torch"]
    assert rows[0].split()[4] == rows[1].split()[4] == "100.0%"
    assert "torch reads .safetensors" in rows[2]
    assert str(tuning_file()) in rows[-1]
    (tuning,) = msgspec.json.decode(tuning_file().read_bytes(), type=tuned_runtime._File).tunings
    expected = best(tuning.measured, memory_limit_mb=300)
    assert expected is not None
    (page, *_) = draw_pages(tmp_path, 96)
    done = run("detect", page, *common)
    assert done.stderr == ""
    assert f'"runtime": "{expected.runtime}-fp32"' in done.stdout


def test_too_large_and_not_installed(tiny_model: Path, tmp_path: Path) -> None:
    """Candidates over the limit are shown, none is chosen, nothing is written."""
    done = run("tune", "--model", tiny_model, "--limit-side", 96, "--memory-limit-mb", 30, "--seconds", 1)
    assert done.returncode == 1
    assert "too large: stopped above 30 MiB" in done.stdout
    assert "nothing ran within 30 MiB at 96 pixels: raise --memory-limit-mb" in done.stderr
    assert not tuning_file().exists()
    with pytest.raises(TooMuchMemoryError):
        list(run_isolated(IsolatedRun(model=str(tiny_model)), [], stop_above_mb=10))


def test_a_folder_that_cannot_be_written_is_said_first(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments, environment in (
        (("-o", tmp_path / "file" / "tune.json"), {}),
        ((), {"XDG_CACHE_HOME": str(tmp_path / "file")}),
        ((), {"OCRFLEET_TUNE_FILE": "/proc/tune.json"}),
    ):
        done = run("tune", "--model", tiny_model, *arguments, environment=environment)
        assert done.returncode == 2
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert "tune.json: cannot be written" in line
        assert "give -o FILE" in line


def test_thread_counts() -> None:
    assert thread_counts(0.5) == [1]
    assert thread_counts(2) == [1, 2]
    assert thread_counts(6.5) == [1, 2, 4, 6]
    assert thread_counts(64) == [1, 2, 4, 8, 16]


@pytest.mark.slow
def test_agreement_of_boxes(tmp_path: Path, tiny_model: Path) -> None:
    pages = draw_pages(tmp_path, 640)
    messages = list(run_isolated(IsolatedRun(model="dbnet-resnet18"), pages))
    boxes = [[*map(list, message.boxes)] for message in messages if not isinstance(message, Ended)]
    assert [len(found) > 5 for found in boxes] == [True, True, True]  # there is something to agree on
    quads = [[np.array(points) for points in found] for found in boxes]
    assert agreement(quads, quads) == 1
    assert agreement(quads, [found[:-2] for found in quads]) < 1
    assert agreement([[]], [[]]) == 1


@pytest.mark.slow
def test_what_an_isolated_run_remarks_is_heard_here(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remember(load_card(tiny_model).sha256, 960)
    settings = IsolatedRun(model=str(tiny_model), limit_side=640)
    assert list(run_isolated(settings, []))[-1].runtime == "onnxruntime-fp32"  # type: ignore[union-attr]
    assert "not tuned for pages of 640 pixels" in caplog.text


@pytest.mark.slow
def test_an_isolated_run_tells_why_it_died(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(IsolatedRunError, match=r"nowhere\.png: cannot be opened"):
        list(run_isolated(IsolatedRun(model=str(tiny_model)), [tmp_path / "nowhere.png"]))
    lines = list(run_isolated(IsolatedRun(model=str(tiny_model), seconds=0.01), draw_pages(tmp_path, 64)))
    assert isinstance(lines[-1], Ended)
    assert len(lines) >= 3 * 3 + 1  # three rounds at least


def test_looking_the_tuned_runtime_up_is_light() -> None:
    code = "import sys, detector.runtimes.tuned; print({'numpy', 'cv2', 'onnxruntime'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_a_fault_of_ours_names_the_image(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: "died with code 1: IndexError: tuple index out of range", of whichever of a thousand."""

    def fault(*arguments: object) -> None:
        raise IndexError("of ours")

    monkeypatch.setattr(TextDetector, "detect", fault)
    with pytest.raises(RuntimeError, match=r"a\.png: IndexError: of ours"):
        list(_work(_Order(IsolatedRun(model=str(tiny_model)), [str(tmp_path / "a.png")])))
