"""ONNX Runtime collects nothing: what it would write lies in /tmp, where other users can put a link or a pipe first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
