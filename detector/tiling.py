"""A large page in overlapping tiles, merged into one map: no line is cut; memory is one tile and the map."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

TILE = 640
"""Side of a tile, pixels: the network is trained on crops up to this size, and measured memory is known at it."""

OVERLAP = 128
"""Least overlap of two tiles, pixels: about what the network looks at around a letter to call it text."""

BLIND = 16
"""Pixels at a tile's cut border whose answer counts nothing where another tile sees them whole."""

Pixels = npt.NDArray[np.uint8]
Probability = Callable[[Pixels], npt.NDArray[np.float32]]


def starts(length: int) -> list[int]:
    """Where tiles begin along one side, evenly spread so that each two overlap by OVERLAP or more.

    Args:
        length: of the page's side, pixels.
    """
    if length <= TILE:
        return [0]
    count = -(-(length - OVERLAP) // (TILE - OVERLAP))
    return [round(index * (length - TILE) / (count - 1)) for index in range(count)]


def weights(length: int) -> list[npt.NDArray[np.float32]]:
    """How much each tile counts along one side: 1 inside, falling linearly towards cut borders; they add up to 1.

    Returns:
        Per tile of `starts`, (min(TILE, length),) float32 in [0, 1].
    """
    begins = starts(length)
    side = min(TILE, length)
    total = np.zeros(length, np.float32)
    ramps = []
    for begin in begins:
        ramp = np.ones(side, np.float32)
        rise = np.clip((np.arange(side) + 0.5 - BLIND) / (OVERLAP - 2 * BLIND), 0.0, 1.0).astype(np.float32)
        if begin > 0:
            ramp = np.minimum(ramp, rise)
        if begin + side < length:
            ramp = np.minimum(ramp, rise[::-1])
        total[begin : begin + side] += ramp
        ramps.append(ramp)
    return [ramp / total[begin : begin + side] for ramp, begin in zip(ramps, begins, strict=True)]


def merged_map(pixels: Pixels, probability: Probability) -> Pixels:
    """The probability map of a page of any size.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        probability: (h, w, 3) uint8 -> (h, w) float32 in [0, 1], for tiles up to TILE x TILE.

    Returns:
        (H, W) uint8, 255 = certainly text.
    """
    height, width = pixels.shape[:2]
    high, wide = min(TILE, height), min(TILE, width)
    tops, lefts = starts(height), starts(width)
    down, across = weights(height), weights(width)
    merged = np.empty((height, width), np.uint8)
    # One row of tiles is added up as floats; what no later row touches is rounded into the map.
    band = np.zeros((high, width), np.float32)
    for top, next_top, vertical in zip(tops, [*tops[1:], height], down, strict=True):
        for left, horizontal in zip(lefts, across, strict=True):
            tile = np.ascontiguousarray(pixels[top : top + high, left : left + wide])
            band[:, left : left + wide] += probability(tile) * vertical[:, None] * horizontal
        finished = next_top - top
        merged[top:next_top] = np.rint(np.clip(band[:finished], 0.0, 1.0) * 255.0)
        if next_top < height:
            band[: high - finished] = band[finished:].copy()
            band[high - finished :] = 0.0
    return merged


def count_tiles(height: int, width: int) -> int:
    """Runs of the network that a page of this size takes."""
    return len(starts(height)) * len(starts(width))
