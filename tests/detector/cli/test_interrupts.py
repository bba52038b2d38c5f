"""Ctrl-C in the middle of every command of `ocr-detector`: one line, exit code 130, nothing half-made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.cli.main import cli
from tests.detector.cli.conftest import TRUTH


def said(text: str) -> Callable[[subprocess.Popen[str]], None]:
    """Waits for a line that begins so, on stdout or (behind a bar) stderr."""

    def wait(process: subprocess.Popen[str]) -> None:
        stream = process.stderr if text.startswith("|") else process.stdout
        assert stream is not None
        for line in stream:
            if line.startswith(text.removeprefix("|")):
                return
        raise AssertionError(f"it ended without saying {text}")

    return wait


def loaded(library: str) -> Callable[[subprocess.Popen[str]], None]:
    """Waits until the process has a shared library, and a moment more of its own CPU time: where its C++ starts up, an
    interrupt ends in abort(), and on a busy machine that takes longer by the clock."""

    def wait(process: subprocess.Popen[str]) -> None:
        while library not in Path(f"/proc/{process.pid}/maps").read_text():
            assert process.poll() is None
            time.sleep(0.02)
        ready = cpu_s(process.pid) + 0.3
        while cpu_s(process.pid) < ready:
            assert process.poll() is None
            time.sleep(0.02)

    return wait


def cpu_s(pid: int) -> float:
    """CPU time that a process has used, seconds (utime and stime of proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


TRAINING = "train --data data --init none --backbone mobilenet_v3_small --crop 64 --limit-side 64 --batch-size 1"
INTERRUPTED: dict[str, tuple[str, Callable[[subprocess.Popen[str]], None], str]] = {
    "detect": (f"detect {'large.png ' * 50}--model model.onnx", said("{"), "interrupted"),
    "evaluate": ("evaluate --data many --split train --model model.onnx", said("runtime"), "interrupted"),
    "tune": ("tune --model model.onnx --limit-side 640 --seconds 60 -o u.json", said("runtime"), "interrupted"),
    "train": (
        f"{TRAINING} --epochs 1000 --amp off -o long",
        said("|epoch 2"),
        "go on with: ocr-detector train --resume",
    ),
    "prune": ("prune --data data --epochs 500 -o slim", said("|epoch 0"), "go on with: ocr-detector prune --resume"),
    "export": ("export -o y.onnx --size 1536", loaded("libtorch_cpu"), "interrupted"),
    "quantize": ("quantize model.onnx --images many/train_images -o y.onnx", loaded("onnxruntime"), "interrupted"),
    "import-weights": ("import-weights keys.pt -o y.onnx", loaded("libtorch_cpu"), "interrupted"),
}


@pytest.fixture(scope="module")
def many(place: Path) -> Path:
    """Enough work to be interrupted in: sixty large pages."""
    folder = place / "many"
    (folder / "train_images").mkdir(parents=True)
    (folder / "train_gts").mkdir()
    noise = np.random.default_rng(0).integers(0, 99, (1500, 2000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(place / "large.png", compress_level=1)
    for number in range(60):
        (folder / "train_images" / f"{number}.png").hardlink_to(place / "large.png")
        (folder / "train_gts" / f"{number}.txt").write_text(TRUTH)
    return place


@pytest.mark.slow
@pytest.mark.parametrize("command", INTERRUPTED)
def test_interrupted(many: Path, tmp_path: Path, command: str) -> None:
    words, wait, says = INTERRUPTED[command]
    process = subprocess.Popen(
        # The program as it is installed. `python -m` would end by the signal itself where it struck in an exec() of
        # text, as dataclasses do at import, though it was caught (CPython's pymain_run_module).
        [Path(sys.executable).with_name("ocr-detector"), *words.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=many,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    wait(process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    lines = [line for line in errors.splitlines() if line.strip() and not line.startswith(("note:", "epoch", "step"))]
    assert (process.returncode, len(lines)) == (130, 1), errors
    assert says in lines[0]
    assert not list(many.glob("y.*"))
    if command == "train":
        assert (many / "long" / "last.pt").is_file()  # and can be gone on with, see tests/training


def test_every_command_is_interrupted() -> None:
    """All but `models`, where nothing takes time: see test_command_errors."""
    assert set(INTERRUPTED) | {"models"} == set(cli.list_commands(None))  # type: ignore[arg-type]
