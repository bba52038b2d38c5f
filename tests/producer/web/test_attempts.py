"""What kills the service twice is refused; processes that open strangers' files are killed before it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from detector.memory import OOM_SCORE
from producer.archive_process.lister import ArchiveLister
from producer.detector_process.line_process import LineProcess
from producer.detector_process.page_counter import program
from producer.web.bounds.attempts import LostTwiceError, counted_attempt

TRY = """
import os, signal, sys
from pathlib import Path
from producer.web.bounds.attempts import counted_attempt
with counted_attempt(Path(sys.argv[1]), "it read"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_third_attempt_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", TRY, mark], capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
    with pytest.raises(LostTwiceError, match="killed 2 times while it read"), counted_attempt(mark, "it read"):
        raise AssertionError


def test_errors_and_ends_are_no_deaths(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for error in (ValueError, KeyboardInterrupt, OSError):
        with pytest.raises(error), counted_attempt(mark, "it read"):
            assert mark.stat().st_size == 1
            raise error
    with counted_attempt(mark, "it read"):
        pass
    assert not mark.exists()


def score(pid: int | str) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's score")
def test_children_go_first() -> None:
    """Before: the page held more memory than what it started, and the kernel took the page."""
    child, lister = LineProcess(program()), ArchiveLister()
    try:
        for process in (child._running(), lister._running()):
            assert score(process.pid) == min(1000, score("self") + OOM_SCORE)
    finally:
        child.stop(kill=True)
        lister.stop(kill=True)
