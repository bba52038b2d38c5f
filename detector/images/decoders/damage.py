"""How much of a damaged page was read, and how much is enough."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detector.errors import CorruptImage

Pixels = npt.NDArray[np.uint8]

LEAST_SHARE = 0.9
"""Of its rows a page must have to count as read, with the flag `damaged`."""


class Decoded(NamedTuple):
    """A page's pixels.

    Attributes:
        pixels: (H, W, 3) uint8 RGB in stored orientation.
        share: of its rows that were read, if it is damaged; None of a sound page.
    """

    pixels: Pixels
    share: float | None = None


def refuse_unless_most(share: float, description: str, name: str, reason: str = "") -> None:
    """A page of which too little can be read is no page.

    Raises:
        CorruptImage: it is.
    """
    if share < LEAST_SHARE:
        said = f"; {reason}" if reason else ""
        read = f"{math.floor(share * 100)} % of its rows can be read"
        raise CorruptImage(f"{name}: the {description} data is damaged or cut off: {read}{said}")
