"""What tells "no text found" from "nothing could be seen": blank pages, and print made too small."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

BLANK_SHARE = 0.995
"""A page without boxes is blank if this share of its pixels has nearly one value. A line of 10 point print covers 0.3 %
of an A4 page with ink and the grey around it."""

BLANK_SPREAD = 8
"""Grey values on either side of the most frequent one that count as the same: paper is not even, JPEG even less."""

SMALL_TEXT = 8
LEAST_TEXT = 3
"""Letters 8 pixels high on the page are lost if the network sees them less than 3 high."""


def is_blank(pixels: npt.NDArray[np.uint8]) -> bool:
    """Whether nearly all pixels of (H, W, 3) uint8 RGB have one value, by the green channel of every other pixel."""
    green = np.ascontiguousarray(pixels[::2, ::2, 1])
    counts = cv2.calcHist([green], [0], None, [256], [0, 256]).ravel()
    middle = int(counts.argmax())
    near = counts[max(0, middle - BLANK_SPREAD) : middle + BLANK_SPREAD + 1].sum()
    return bool(near >= BLANK_SHARE * green.size)


def remarks(seen: tuple[int, int], original: tuple[int, int], *, blank: bool) -> tuple[str, ...]:
    """Flags about what the network can have seen.

    Args:
        seen: (height, width) at which the network saw the page.
        original: (width, height) of the page, pixels.
        blank: whether the page is blank.

    Returns:
        Of "blank" and "small_text_lost".
    """
    scale = max(seen) / max(original)
    lost = SMALL_TEXT * scale < LEAST_TEXT
    return (*(["blank"] if blank else []), *(["small_text_lost"] if lost else []))
