"""The benchmarks' own arithmetic and pictures; and that each still starts."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.bench.bench_frontier import parse_panel
from tests.bench.chart import OTHERS, OURS, Bar, Point, colours, draw_bars, draw_frontier, frontier

POINTS = [
    Point("signs", "big", True, 640, 50.0, 0.80),
    Point("signs", "small", True, 640, 20.0, 0.70),
    Point("signs", "peer", False, 640, 60.0, 0.79),
    Point("signs", "other", False, 640, 20.0, 0.60),
    Point("signs", "other int8", False, 640, 15.0, 0.59),
    Point("forms", "big", True, 960, 110.0, 0.90),
]


@pytest.mark.slow
def test_every_benchmark_can_be_imported() -> None:
    """No test runs them: one asked for a name that had moved, and nobody saw it."""
    for file in sorted(Path(__file__).parent.glob("*.py")):
        import_module(f"tests.bench.{file.stem}")


def test_the_frontier_is_what_nothing_beats_in_both() -> None:
    assert [point.model for point in frontier(POINTS[:4])] == ["small", "big"]


def test_ours_are_cool_and_others_warm() -> None:
    assert colours(POINTS) == {"big": OURS[0], "small": OURS[1], "peer": OTHERS[0], "other": OTHERS[1]}


def test_panels_are_read_and_refused() -> None:
    assert parse_panel("/data/a@b/td500@640,960") == (Path("/data/a@b/td500"), [640, 960])
    for wrong in ("td500", "td500@", "td500@big", "@640"):
        with pytest.raises(argparse.ArgumentTypeError, match="FOLDER@SIDE"):
            parse_panel(wrong)


@pytest.mark.slow
def test_both_pictures_show_ours_in_blue_and_others_in_red(tmp_path: Path) -> None:
    draw_frontier(POINTS, tmp_path / "frontier.png", "toy")
    bars = [Bar("ours", True, 20.0, 25.0, 150.0, 0.7), Bar("peer", False, 40.0, 80.0, 300.0, 0.6)]
    draw_bars(bars, tmp_path / "bars.png", "toy")
    for name in ("frontier.png", "bars.png"):
        pixels = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        for shade in (OURS[0], OTHERS[0]):
            colour = [int(shade[i : i + 2], 16) for i in (1, 3, 5)]
            assert (pixels == colour).all(axis=-1).sum() > 30, (name, shade)
