"""The network's input, made again and again in the same memory."""

from __future__ import annotations

import numpy as np
import pytest

from detector.models import IMAGENET_MEAN, IMAGENET_STD
from detector.preprocess import KEPT_BYTES, Normaliser, normalise


def test_pages_of_all_sizes_one_after_the_other() -> None:
    make = Normaliser(IMAGENET_MEAN, IMAGENET_STD)
    random = np.random.default_rng(0)
    kept = []
    for height, width in ((33, 50), (640, 640), (1, 1), (64, 32), (700, 900), (31, 700), (640, 640)):
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        batch = make(pixels)
        assert batch.flags.c_contiguous
        assert batch.dtype == np.float32
        assert np.array_equal(batch, normalise(pixels, IMAGENET_MEAN, IMAGENET_STD))
        expected = ((pixels / 255 - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)
        assert np.abs(batch[0, :, :height, :width] - expected).max() < 1e-5
        assert not batch[0, :, height:].any()
        assert not batch[0, :, :, width:].any()
        assert batch.shape[2] % 32 == batch.shape[3] % 32 == 0
        kept.append(make._kept.nbytes)
    assert kept[1] == kept[-1] <= KEPT_BYTES  # the largest that is kept stays, a larger one does not


def test_a_part_of_a_larger_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8)
    part = picture[10:74, 20:84]
    assert np.array_equal(
        normalise(part, IMAGENET_MEAN, IMAGENET_STD), normalise(part.copy(), IMAGENET_MEAN, IMAGENET_STD)
    )


@pytest.mark.parametrize(
    ("page", "seen", "given"),
    [((427, 640), (416, 640), (416, 640)), ((64, 96), (64, 96), (64, 96)), ((20, 70), (20, 64), (32, 64))],
)
def test_sides_are_shrunk_where_the_network_learnt_so(
    page: tuple[int, int], seen: tuple[int, int], given: tuple[int, int]
) -> None:
    """PP-OCRv6 takes a whole padded photo for text; before, every page was padded."""
    make = Normaliser(IMAGENET_MEAN, IMAGENET_STD, stretch=True)
    pixels = np.full((*page, 3), 255, np.uint8)
    batch = make(pixels)
    assert batch.shape[2:] == given
    assert batch[0, :, : seen[0], : seen[1]].all()
    assert not batch[0, :, seen[0] :].any()
    rows = np.linspace(0, 1, given[0], dtype=np.float32)
    found = make.restore(np.repeat(rows[:, None], given[1], axis=1), *page)
    assert found.shape == page
    assert np.all(np.diff(found[:, 0]) >= 0)
    assert found[-1, 0] == rows[seen[0] - 1]
