"""Peak memory per image, the ladder, and what counts as out of memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker import guard


def test_peak_is_of_this_image_only() -> None:
    guard.reset_peak_rss()
    base = guard.peak_rss_mb()
    block = bytearray(80 << 20)
    block[::4096] = b"x" * len(block[::4096])
    assert guard.peak_rss_mb() > base + 60
    del block
    guard.reset_peak_rss()
    assert guard.peak_rss_mb() < base + 40


@pytest.mark.parametrize(
    ("limit", "losses", "expected"), [(640, 0, 640), (640, 1, 448), (640, 2, 320), (640, 9, 320), (320, 2, 320)]
)
def test_ladder(limit: int, losses: int, expected: int) -> None:
    assert guard.degraded_limit_side(limit, losses) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("OpenCV: Failed to allocate 123 bytes: Insufficient memory"), True),
        (ValueError("bad JPEG"), False),
    ],
)
def test_out_of_memory(error: Exception, expected: bool) -> None:
    assert guard.is_out_of_memory(error) is expected


def test_oom_witness_counts_only_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = tmp_path / "memory.events"
    events.write_text("oom 1\noom_kill 1\n")
    monkeypatch.setattr(guard, "_oom_file", lambda: events)
    witness = guard.OomWitness()
    assert not witness.killed_since_last_look()
    events.write_text("oom 2\noom_kill 2\n")
    assert witness.killed_since_last_look()
    assert not witness.killed_since_last_look()
