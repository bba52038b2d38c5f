"""No file, however it lies about itself, takes much more memory than the limit: it costs one record, or one process."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest

from detector.memory import PYTHONS_OWN, STARTING_OBJECTS, collect_as_usual, collect_little_at_start
from tests.hostile import HOSTILE_IMAGES

LIMIT_MB = 192
# From a small process: the peak of a child begins with that of the one that forked it.
MEASURE = """
import os, sys
log, *words = sys.argv[1:]
out = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
pid = os.posix_spawn(words[0], words, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, out, 2)])
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""
ALLOWED_MB = LIMIT_MB + 150  # mapped code of libraries (64 MB with ONNX Runtime), the margin, what is never touched


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE_IMAGES)
def test_hostile_files_stay_within_the_limit(name: str, tmp_path: Path) -> None:
    """Before: 1.5 GB (WebP), 1 GB (PDF) and 6.8 GB (JPEG 2000) in a process with a limit of 192 MB."""
    file, out = tmp_path / name, tmp_path / "out.jsonl"
    file.write_bytes(HOSTILE_IMAGES[name]())
    words = ["detect", str(file), "--profile", "low", "--memory-limit-mb", str(LIMIT_MB), "-o", str(out)]
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "log"), sys.executable, "-m", "detector.cli", *words],
        capture_output=True,
        check=True,
    )
    peak_kb, code = map(int, measured.stdout.split())
    assert peak_kb / 1024 < ALLOWED_MB
    assert code == 1, (tmp_path / "log").read_text()
    assert json.loads(out.read_text())["error"]["type"] in ("OutOfMemory", "TooLarge", "CorruptImage")


def test_garbage_is_looked_for_as_usual_once_no_more_modules_come(monkeypatch: pytest.MonkeyPatch) -> None:
    # Python's own, and not the threshold of the test run (conftest.py).
    ours, usual, callbacks = gc.get_threshold(), PYTHONS_OWN, list(gc.callbacks)
    try:
        collect_little_at_start()
        for name in ("tests.new", "tests.newer"):  # still importing
            monkeypatch.setitem(sys.modules, name, sys)
            gc.collect()
            assert gc.get_threshold()[0] == STARTING_OBJECTS
        gc.collect()
        assert gc.get_threshold() == usual
        assert gc.callbacks == callbacks
        assert gc.get_freeze_count() > 1000  # what imports left is not looked at again
    finally:
        collect_as_usual()
        gc.set_threshold(*ours)
        gc.unfreeze()


def test_programs_begin_like_that_and_leave_the_rest_to_the_kernel() -> None:
    code = (
        "import gc, sys\nfrom detector.cli import main\nsys.argv = ['ocr-detector', '--version']\n"
        "try: main()\nexcept SystemExit: print(gc.get_threshold()[0], gc.get_freeze_count() > 1000)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == f"{STARTING_OBJECTS} True"
