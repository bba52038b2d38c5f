"""What each of several local workers may use."""

from __future__ import annotations

import pytest

from detector.machine import Machine
from producer.local.fleet import memory_share_mb


@pytest.mark.parametrize(
    ("profile", "workers", "memory_mb", "expected"),
    [
        ("auto", 1, 512, 256),  # the low profile's own limit fits
        ("auto", 2, 512, 153),
        ("auto", 2, 24_000, 512),
        ("accurate", 4, 2048, 436),
        ("low", 1, 64, 1),  # hopeless, but it does not break
    ],
)
def test_workers_share_the_machine(profile: str, workers: int, memory_mb: int, expected: int) -> None:
    assert memory_share_mb(profile, workers, Machine(2, memory_mb, "cgroup")) == expected
