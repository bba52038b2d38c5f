"""ONNX Runtime and OpenVINO collect nothing: what the one would write lies in /tmp, where others put a link first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pictures import text_image


def test_a_detection_leaves_nothing_behind(tmp_path: Path) -> None:
    temporary, home = tmp_path / "tmp", tmp_path / "home"
    temporary.mkdir()
    home.mkdir()
    os.mkfifo(temporary / ".ses")  # before: it waited for a reader for ever
    text_image(400, 300, "LETTER").save(tmp_path / "a.png")
    left_out = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    done = subprocess.run(
        [sys.executable, "-m", "detector.cli", "detect", str(tmp_path / "a.png"), "--limit-side", "320"],
        env={**environment, "TMPDIR": str(temporary), "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert list(temporary.iterdir()) == [temporary / ".ses"]
    assert not [path for path in home.rglob("*") if "icrosoft" in str(path)]


@pytest.mark.slow
def test_openvino_tells_nobody_of_its_import(tmp_path: Path) -> None:
    """Before: it sent an event to www.google-analytics.com at each, by a forked process, and kept an id in ~/intel."""
    code = """
import sys, detector.runtimes.openvino
print(sorted(name for name in sys.modules if "telemetry" in name and sys.modules[name]))
"""
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert "'openvino.tools.ovc.telemetry_stub'" in done.stdout and "openvino_telemetry" not in done.stdout
    assert list(tmp_path.iterdir()) == []
