"""Tiles cover a page, add up to its map, and leave lines that cross them whole."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from detector.images.sizes import (
    OVERLAP,
    OVERVIEW_RATIO,
    THIN_ASPECT,
    TILE,
    needs_tiles,
    overview_limit,
    starts,
    target_size,
    tile_side,
    tile_size,
)
from detector.postprocess import find_boxes
from detector.predictor import TextDetector
from detector.profile import PROFILES
from detector.thresholds import Thresholds
from detector.tiling import WholePage, blend_overview, merged_map, weights
from tests.detector.cli.test_detect import run
from tests.detector.test_predictor import expected_box, page_with_bright_line

SPANS = st.tuples(st.integers(1, 12_000), st.integers(1, 40))


def count_tiles(height: int, width: int) -> int:
    """Tiles of a page of this size; the network runs again for the overview."""
    high, wide = tile_size(height, width)
    return len(starts(height, high)) * len(starts(width, wide))


@pytest.mark.slow
@given(SPANS)
def test_tiles_cover_a_side_and_overlap_enough(span: tuple[int, int]) -> None:
    length, count = span
    side = tile_side(length, count)
    begins = starts(length, side)
    assert len(begins) <= count
    assert begins[0] == 0
    assert begins[-1] == length - side
    assert all(0 < right - left <= side - OVERLAP for left, right in pairwise(begins))


@given(SPANS)
def test_weights_add_up_to_one(span: tuple[int, int]) -> None:
    length, side = span[0], tile_side(*span)
    total = np.zeros(length)
    for begin, weight in zip(starts(length, side), weights(length, side), strict=True):
        total[begin : begin + len(weight)] += weight
        assert np.isfinite(weight).all()
    assert np.allclose(total, 1.0, atol=1e-5)


@given(st.integers(1, 9_000), st.integers(1, 9_000))
def test_tiles_are_no_larger_than_allowed_and_waste_little(height: int, width: int) -> None:
    high, wide = tile_size(height, width)
    assert 0 < high <= height
    assert 0 < wide <= width
    assert high * wide <= TILE * TILE
    if not needs_tiles(height, width):
        assert (high, wide) == (height, width)
    if min(height, width) >= TILE:
        assert count_tiles(height, width) * high * wide < 2.2 * height * width


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 2_500), st.integers(1, 2_500), st.integers(0, 1000))
def test_the_merged_map_of_a_local_answer_is_that_answer(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    runs = []

    def red(tile: np.ndarray) -> np.ndarray:
        assert tile.shape[:2] == tile_size(height, width)
        runs.append(tile.shape)
        return tile[:, :, 0].astype(np.float32) / 255

    merged = merged_map(WholePage(pixels), red)
    assert np.array_equal(merged, pixels[:, :, 0])
    assert len(runs) == count_tiles(height, width)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(2, 900), st.integers(2, 900), st.integers(1, 4))
def test_the_overview_is_laid_exactly_over_the_map(height: int, width: int, factor: int) -> None:
    """A ramp shrunk by averaging and enlarged again is that ramp, but half a pixel at the borders."""
    ramp = np.linspace(0, 250, width * factor)[None] * np.ones((height * factor, 1))
    merged = np.rint(ramp).astype(np.uint8)
    overview = ramp.reshape(height, factor, width, factor).mean(axis=(1, 3)).astype(np.float32) / 255
    before = merged.copy()
    blend_overview(merged, overview)
    inner = slice(factor, -factor)
    assert np.abs(merged[:, inner].astype(int) - before[:, inner]).max(initial=0) <= 1 + 125 / width / 32


@pytest.mark.parametrize(("smaller", "weight"), [(1.0, 0.25), (1.3, 0.25), (1.575, 0.15), (1.8, 0.05), (2.25, 0.05)])
def test_the_smaller_the_overview_the_less_it_counts(smaller: float, weight: float) -> None:
    merged = np.full((1260, 630), 200, np.uint8)
    blend_overview(merged, np.zeros((round(1260 / smaller), round(630 / smaller)), np.float32))
    assert np.abs(merged.astype(int) - 200 * (1 - weight)).max() <= 1


def test_what_a_tile_says_at_its_cut_border_does_not_count() -> None:
    def nervous(tile: np.ndarray) -> np.ndarray:
        answer = np.zeros(tile.shape[:2], np.float32)
        answer[:10] = answer[-10:] = 1.0  # a false line along the upper and lower border
        return answer

    merged = merged_map(WholePage(np.zeros((1500, 600, 3), np.uint8)), nervous)
    assert (merged[:10] == 255).all()
    assert (merged[-10:] == 255).all()
    assert not merged[10:-10].any()


def test_boxes_of_a_coarse_map_are_those_of_the_fine_one() -> None:
    fine = np.zeros((200, 300), np.float32)
    fine[50:80, 40:250] = 0.8
    coarse = np.rint(fine * 255).astype(np.uint8)
    (one,) = find_boxes(fine, (2, 2), (600, 400), Thresholds())
    (other,) = find_boxes(coarse, (2, 2), (600, 400), Thresholds())
    assert one.points == other.points
    assert abs(one.score - other.score) < 0.005


@pytest.mark.slow
def test_a_tiled_page_says_so_and_its_boxes_are_in_original_pixels(tmp_path: Path, tiny_model: Path) -> None:
    path = tmp_path / "page.png"
    page_with_bright_line().save(path)
    found = TextDetector(tiny_model, limit_side=1700, tiled=True).detect(path)
    assert found.flags == ("tiled",)
    assert found.input_size == (1100, 1700)
    (box,) = found.boxes
    assert np.abs(np.array(box.points) - expected_box(1.0)).max() < 3
    small = TextDetector(tiny_model, limit_side=640, tiled=True).detect(path)
    assert small.flags == ("downscaled",)


def test_only_the_accurate_profile_tiles() -> None:
    assert {name for name, profile in PROFILES.items() if profile.tiled} == {"accurate"}


@pytest.mark.slow
@pytest.mark.parametrize("turned", [False, True])
def test_a_long_line_across_tiles_is_one_box(turned: bool) -> None:
    page = Image.new("RGB", (1500, 1000), "white")
    font = ImageFont.load_default(44)
    words = "The quick brown fox jumps over the lazy dog and runs far away from it"
    ImageDraw.Draw(page).text((30, 70), words, fill="black", font=font)
    length = ImageDraw.Draw(page).textlength(words, font=font)
    assert length > 1300
    if turned:
        page = page.rotate(3, expand=True, fillcolor="white")
    detector = TextDetector(limit_side=2000)
    pixels = np.asarray(page)
    height, width = pixels.shape[:2]
    merged = merged_map(WholePage(pixels), detector.probability)
    # Whether it is one box is asked here, not how sure the network is of this font.
    boxes = find_boxes(merged, (1.0, 1.0), (width, height), replace(detector.thresholds, box_threshold=0.4))
    assert count_tiles(height, width) == 6
    assert len(boxes) == 1
    corners = np.array(boxes[0].points)
    assert np.linalg.norm(corners[1] - corners[0]) > 0.95 * length


def test_the_command_tiles_when_asked_or_by_profile(tmp_path: Path, tiny_model: Path) -> None:
    path = tmp_path / "page.png"
    page_with_bright_line().save(path)
    for options, expected in (
        (["--tiled", "--limit-side", 1700], ["tiled"]),
        (["--profile", "accurate"], ["downscaled", "tiled"]),
        (["--profile", "accurate", "--untiled"], ["downscaled"]),
    ):
        done = run("detect", path, "--model", tiny_model, *options)
        assert json.loads(done.stdout)["flags"] == expected


@given(st.integers(1, 9_000), st.integers(1, 9_000))
def test_an_overview_fits_a_tile_unless_it_would_be_too_small(height: int, width: int) -> None:
    limit = overview_limit(height, width)
    long, short = max(height, width), min(height, width)
    if limit is None:
        assert not needs_tiles(height, width) or long >= THIN_ASPECT * short  # a tile sees it from edge to edge
        return
    wide, high = target_size(width, height, limit)
    ratio = max(long / max(wide, high), short / min(wide, high))
    assert (wide, high) != (width, height) or not needs_tiles(height, width)
    if needs_tiles(height, width):
        assert not needs_tiles(high, wide) or ratio >= OVERVIEW_RATIO * 0.95
        assert ratio < OVERVIEW_RATIO * 1.05 or short < 10
