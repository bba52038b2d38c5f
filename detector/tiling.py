"""A large page in overlapping tiles, merged into one map: no line is cut; memory is one tile and the map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from detector.images.sizes import OVERLAP, starts, tile_size

BLIND = 32
"""Pixels at a tile's cut border whose answer counts nothing where another tile sees them whole."""

OVERVIEW_WEIGHTS = ((1.35, 1.8), (0.25, 0.05))
"""How much the look at the whole page counts, beside that at its tiles, by how many times smaller than the page it is.

It knows large lettering, of which a tile sees a part only, and does not see specks; but the smaller it is, the less it
knows of small print. Forms at 1440 (1.3 times as large as their overview) gain 1.3 points of hmean from 0.25 instead of
0.05; of A4 pages in 6 point print (1.8 times) 0.05 finds all lines, 0.25 93 %. Measure again with new weights: the
numbers are in detector/training/NOTES.md."""


MOST_ROWS = 256  # of the map, blended at a time

Pixels = npt.NDArray[np.uint8]
Probability = Callable[[Pixels], npt.NDArray[np.float32]]


class Rows(Protocol):
    """A page that can be read from top to bottom.

    Attributes:
        height, width: pixels.
    """

    height: int
    width: int

    def rows(self, top: int, bottom: int) -> Pixels:
        """(bottom - top, width, 3) uint8 RGB. From call to call neither `top` nor `bottom` goes back."""
        ...


class WholePage:
    """A page that is in memory, as `Rows`.

    Args:
        pixels: (H, W, 3) uint8 RGB.
    """

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        self.height, self.width = pixels.shape[:2]

    def rows(self, top: int, bottom: int) -> Pixels:
        """See `Rows`."""
        return self._pixels[top:bottom]


def weights(length: int, side: int) -> list[npt.NDArray[np.float32]]:
    """How much each tile counts along one side: 1 inside, falling linearly towards cut borders; they add up to 1.

    Returns:
        Per tile of `starts`, (side,) float32 in [0, 1].
    """
    begins = starts(length, side)
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


def merged_map(page: Rows, probability: Probability) -> Pixels:
    """The probability map of a page of any size.

    Args:
        page: read once, from top to bottom.
        probability: (h, w, 3) uint8 -> (h, w) float32 in [0, 1], for tiles of `tile_size`.

    Returns:
        (height, width) uint8, 255 = certainly text. Kept at full size: at half size thin lines are lost (hmean on
        receipts .839 instead of .911).
    """
    high, wide = tile_size(page.height, page.width)
    tops, lefts = starts(page.height, high), starts(page.width, wide)
    down, across = weights(page.height, high), weights(page.width, wide)
    merged = np.empty((page.height, page.width), np.uint8)
    # One row of tiles is added up as floats; what no later row touches is rounded into the map.
    band = np.zeros((high, page.width), np.float32)
    for top, next_top, vertical in zip(tops, [*tops[1:], page.height], down, strict=True):
        pixels = page.rows(top, top + high)
        for left, horizontal in zip(lefts, across, strict=True):
            tile = np.ascontiguousarray(pixels[:, left : left + wide])
            band[:, left : left + wide] += probability(tile) * vertical[:, None] * horizontal
        finished = next_top - top
        merged[top:next_top] = np.rint(np.clip(band[:finished], 0.0, 1.0) * 255.0)
        if next_top < page.height:
            band[: high - finished] = band[finished:].copy()
            band[high - finished :] = 0.0
    return merged


def blend_overview(merged: Pixels, overview: npt.NDArray[np.float32] | Pixels) -> None:
    """Mixes the map of the page seen smaller into that of its tiles, in place.

    Args:
        merged: (H, W) uint8, 255 = 1.
        overview: (h, w) uint8 likewise, or float32 in [0, 1]; of the same page.
    """
    height, width = merged.shape
    small = overview if overview.dtype == np.uint8 else np.rint(overview * 255.0).astype(np.uint8)
    scale_x, scale_y = small.shape[1] / width, small.shape[0] / height
    weight = float(np.interp(1 / max(scale_x, scale_y), *OVERVIEW_WEIGHTS))
    for top in range(0, height, MOST_ROWS):
        part = merged[top : top + MOST_ROWS]
        # Pixel centres: x of the map is (x + 0.5) * scale - 0.5 of the overview.
        to_overview = np.array(
            [[scale_x, 0, (scale_x - 1) / 2], [0, scale_y, (top + 0.5) * scale_y - 0.5]], dtype=np.float64
        )
        enlarged = cv2.warpAffine(
            small,
            to_overview,
            (width, len(part)),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        cv2.addWeighted(part, 1 - weight, enlarged, weight, 0, dst=part)
