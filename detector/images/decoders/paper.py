"""Transparent pictures on paper: white or black, whichever what is drawn stands out from."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

LIGHT = 140
"""Drawn in lighter colours than this on average (0 to 255), little of the picture wants black paper."""

MOSTLY_COVERED = 0.6
"""From this share of opaque pixels on the picture brings its own background: what is left is margin, and white."""


def on_paper(colours: Pixels, alpha: Pixels) -> Pixels:
    """A picture with transparency as it is read.

    White lettering on nothing (logos, subtitles, dark-mode exports) would vanish on white.

    Args:
        colours: (H, W, C) uint8, C 1 or 3, already multiplied by alpha.
        alpha: (H, W) uint8, 255 = opaque.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    three = colours if colours.ndim == 3 and colours.shape[2] == 3 else cv2.cvtColor(colours, cv2.COLOR_GRAY2RGB)
    opaque = float(cv2.mean(alpha)[0]) / 255.0
    if opaque == 1.0:
        return three  # type: ignore[return-value]
    drawn = sum(cv2.mean(three)[:3]) / 3.0 / max(opaque, 1e-6)
    if drawn > LIGHT and opaque < MOSTLY_COVERED:
        return three  # type: ignore[return-value]  # premultiplied colours are what it looks like on black
    return cv2.add(three, cv2.cvtColor(cv2.bitwise_not(alpha), cv2.COLOR_GRAY2RGB))  # type: ignore[return-value]


def premultiplied(colours: Pixels, alpha: Pixels) -> Pixels:
    """(H, W, 3) colours times (H, W) alpha."""
    return cv2.multiply(colours, cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB), scale=1 / 255)  # type: ignore[return-value]
