"""Bootstrap intervals: wide where there are few images, narrow where they are paired."""

from __future__ import annotations

import numpy as np
import pytest

from detector.evaluation.intervals import GROUPS, hmean_interval, paired_gain, table
from detector.evaluation.metrics import Counts


def images(count: int, right: float, seed: int) -> np.ndarray:
    """Counts of images with 1 to 9 lines, found with a probability that differs from image to image."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, 10, count)
    return np.column_stack([rng.binomial(truth, np.clip(rng.normal(right, 0.2, count), 0, 1)), truth, truth])


def test_more_images_say_more() -> None:
    few, many = hmean_interval(images(30, 0.7, 0)), hmean_interval(images(3000, 0.7, 0))
    assert few[0] < many[0] < many[1] < few[1]
    assert few[1] - few[0] == pytest.approx(10 * (many[1] - many[0]), rel=0.4)
    assert hmean_interval(images(30, 0.7, 0)) == few


@pytest.mark.slow
def test_the_interval_holds_the_truth_19_times_in_20() -> None:
    everything = images(100_000, 0.7, 1)
    truth = everything[:, 0].sum() / everything[:, 1].sum()
    held = [low <= truth <= high for low, high in (hmean_interval(images(60, 0.7, seed)) for seed in range(2, 202))]
    assert 0.88 <= np.mean(held) <= 0.99


def test_pairs_tell_what_two_scores_cannot() -> None:
    before = images(60, 0.6, 3)
    after = before.copy()
    after[::4, 0] = np.minimum(after[::4, 0] + 1, after[::4, 1])
    gain, low, high = paired_gain(before, after)
    assert 0 < low < gain < high
    assert hmean_interval(before)[1] > hmean_interval(after)[0], "their own intervals overlap"
    assert paired_gain(before, before) == (0, 0, 0)
    with pytest.raises(ValueError, match="60 images cannot be paired with 59"):
        paired_gain(before, after[1:])


@pytest.mark.slow
def test_very_many_images_are_drawn_in_groups() -> None:
    many = images(20 * GROUPS + 7, 0.7, 4)
    low, high = hmean_interval(many)
    assert low < many[:, 0].sum() / many[:, 1].sum() < high < low + 0.02


def test_nothing() -> None:
    assert hmean_interval(table([])) == (0, 0)
    assert hmean_interval(table([Counts()])) == (0, 0)
    assert hmean_interval(table([Counts(3, 4, 5)])) == (pytest.approx(6 / 9), pytest.approx(6 / 9))
