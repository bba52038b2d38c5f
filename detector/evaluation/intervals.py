"""How far a score may be off: bootstrap intervals over images, since the boxes of an image stand or fall together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from detector.evaluation.metrics import Counts

LEVEL = 0.95
DRAWS = 2000
GROUPS = 2000
"""More images than this are drawn in groups: a million of them then cost no more time or memory than 2,000."""

Table = npt.NDArray[np.int64]
"""(N, 3): matched, gt and det of N images, see `detector.evaluation.metrics.Counts`."""


def table(counts: Sequence[Counts]) -> Table:
    """Counts of images as one array."""
    return np.array([(one.matched, one.gt, one.det) for one in counts], np.int64).reshape(-1, 3)


def hmean_interval(images: Table, seed: int = 0) -> tuple[float, float]:
    """Where the hmean of other images of the same kind lies, 95 times in 100.

    Args:
        images: (N, 3).
        seed: of the draws; the same images always have the same interval.
    """
    drawn = _hmeans(_draw(images, seed))
    return _ends(drawn)


def paired_gain(before: Table, after: Table, seed: int = 0) -> tuple[float, float, float]:
    """How much better the same images score: the gain in hmean, and its interval.

    Both are drawn with the same images each time. What is hard for one is mostly hard for the other, so this interval
    is far narrower than the two scores' own.

    Args:
        before: (N, 3).
        after: (N, 3) of the same N images in the same order.
        seed: of the draws.

    Raises:
        ValueError: not the same number of images.
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} images cannot be paired with {len(after)}")
    drawn = _hmeans(_draw(after, seed)) - _hmeans(_draw(before, seed))
    gain = float(_hmeans(after.sum(axis=0)) - _hmeans(before.sum(axis=0)))
    return gain, *_ends(drawn)


def _draw(images: Table, seed: int) -> npt.NDArray[np.float64]:
    """(DRAWS, 3) sums over as many images as there are, drawn with repetition."""
    count = len(images)
    if count > GROUPS:
        images = np.add.reduceat(images, np.linspace(0, count, GROUPS, endpoint=False).astype(np.int64))
    if not len(images):
        return np.zeros((DRAWS, 3))
    share = np.full(len(images), 1 / len(images))
    return np.random.default_rng(seed).multinomial(len(images), share, DRAWS).astype(np.float64) @ images


def _hmeans(sums: npt.NDArray[np.floating] | Table) -> npt.NDArray[np.float64]:
    """(..., 3) -> (...): 2 * matched / (gt + det), which is the harmonic mean of precision and recall."""
    total = np.asarray(sums[..., 1] + sums[..., 2], np.float64)
    hmeans = np.zeros_like(total)
    np.divide(2.0 * sums[..., 0], total, out=hmeans, where=total > 0)
    return hmeans


def _ends(drawn: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
