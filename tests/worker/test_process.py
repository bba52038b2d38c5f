"""Peak memory per image, the ladder, and what counts as out of memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from detector.errors import NotFound, is_out_of_memory
from worker import oom
from worker.detection import degraded_limit_side
from worker.oom import OomWitness, _oom_file

PEAKS = """
from detector.memory import peak_rss_mb
from worker.process import reset_peak_rss

reset_peak_rss()
base = peak_rss_mb()
block = bytearray(80 << 20)
block[::4096] = b"x" * len(block[::4096])
most = peak_rss_mb()
del block
reset_peak_rss()
print(base, most, peak_rss_mb())
"""


def test_peak_is_of_this_image_only() -> None:
    """In a process of its own: a large one finds 80 MB among what it has freed, and does not grow."""
    printed = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True).stdout
    base, most, after = map(float, printed.split())
    assert most > base + 60
    assert after < base + 40


@pytest.mark.parametrize(
    ("limit", "losses", "expected"), [(640, 0, 640), (640, 1, 448), (640, 2, 320), (640, 9, 320), (320, 2, 320)]
)
def test_ladder(limit: int, losses: int, expected: int) -> None:
    assert degraded_limit_side(limit, losses) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("OpenCV: Failed to allocate 123 bytes: Insufficient memory"), True),
        (RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer"), True),
        (ValueError("bad JPEG"), False),
        (NotFound("out of memory.jpg: no such file"), False),
    ],
)
def test_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_oom_witness_counts_only_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = tmp_path / "memory.events"
    events.write_text("oom 1\noom_kill 1\n")
    monkeypatch.setattr(oom, "_oom_file", lambda: events)
    witness = OomWitness()
    assert not witness.killed_since_last_look()
    events.write_text("oom 2\noom_kill 2\n")
    assert witness.killed_since_last_look()
    assert not witness.killed_since_last_look()


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("4:memory:/docker/7\n0::/\n", ["memory/docker/7/memory.oom_control"], "memory/docker/7/memory.oom_control"),
        ("4:cpu,memory:/docker/7\n", ["memory/memory.oom_control"], "memory/memory.oom_control"),
        (
            "0::/system.slice/w.service\n",
            ["system.slice/w.service/memory.events"],
            "system.slice/w.service/memory.events",
        ),
        ("0::/\n", ["memory.events"], "memory.events"),
        ("0::/\n", [], None),
    ],
)
def test_where_oom_kills_are_counted(tmp_path: Path, membership: str, files: list[str], expected: str | None) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(membership)
    for name in files:
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text("oom_kill 0\n")
    found = _oom_file(tmp_path / "proc", tmp_path / "cgroup")
    assert found == (tmp_path / "cgroup" / expected if expected else None)


def test_the_child_dies_first() -> None:
    code = (
        "from detector.memory import raise_oom_score; raise_oom_score(); print(open('/proc/self/oom_score_adj').read())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == min(1000, int(Path("/proc/self/oom_score_adj").read_text()) + 500)
