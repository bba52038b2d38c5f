"""A box -> an upright strip of pixels, as high as the recogniser wants its lines."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Quad = npt.NDArray[np.float64]
"""(4, 2) corners x and y; in reading direction: from the line's top left corner, clockwise."""

VERTICAL = 1.5
"""A box this much higher than wide holds a line from top to bottom, as in PaddleOCR (get_rotate_crop_image)."""

MARGIN_ALONG, MARGIN_ACROSS = 0.2, 0.1
"""Of a line's height, on either side."""

MOST_WIDTH = 3200
"""Strips are squeezed to at most this width: a ruler of 1 x 500 characters must not need memory without bound."""


def size_of(quad: Quad) -> tuple[float, float]:
    """Width and height: the longer of the two opposite sides each."""
    sides = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
    return max(float(sides[0]), float(sides[2])), max(float(sides[1]), float(sides[3]))


def reading_quad(quad: Quad) -> Quad:
    """Corners clockwise from top-left -> from where the line begins: vertical lines are read downwards."""
    width, height = size_of(quad)
    return np.roll(quad, -1, axis=0) if height >= VERTICAL * width else quad


def with_margin(quad: Quad) -> Quad:
    """The line with a little of what is around it: strokes at the box's edge stay whole.

    Measured on receipts: a character error rate of 4.8 % instead of 5.0.
    """
    wide, high = size_of(quad)
    along = (quad[1] - quad[0]) / max(wide, 1e-6) * MARGIN_ALONG * min(wide, high)
    across = (quad[3] - quad[0]) / max(high, 1e-6) * MARGIN_ACROSS * min(wide, high)
    return np.asarray(quad + np.stack([-along - across, along - across, along + across, -along + across]), np.float64)


def margin_share(quad: Quad) -> float:
    """How much of the width of a line with its margin is margin, on either side."""
    wide, high = size_of(quad)
    margin = MARGIN_ALONG * min(wide, high)
    return margin / (wide + 2 * margin) if wide else 0.0


def turned(quad: Quad) -> Quad:
    """The same line, read from its other end."""
    return np.roll(quad, 2, axis=0)


def strip_width(quad: Quad, height: int) -> int:
    """Width of a line's strip at this height, pixels."""
    wide, high = size_of(quad)
    return min(MOST_WIDTH, max(1, round(wide * height / max(high, 1.0))))


def cut(pixels: npt.NDArray[np.uint8], quad: Quad, height: int | None = None) -> npt.NDArray[np.uint8]:
    """The line as a strip.

    Args:
        pixels: (H, W, 3) uint8, the page.
        quad: (4, 2) in its pixels, in reading direction.
        height: of the strip; None: the line's own.

    Returns:
        (height, width, 3) uint8.
    """
    wide, high = (max(1, round(side)) for side in size_of(quad))
    native = _upright(pixels, quad) if _is_upright(quad) else _warped(pixels, quad, wide, high)
    if height is None:
        return native
    # Averaging where more than two rows become one: no aliasing of thin strokes.
    how = cv2.INTER_AREA if native.shape[0] > 2 * height else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(native, (strip_width(quad, height), height), interpolation=how), np.uint8)


def _is_upright(quad: Quad) -> bool:
    """Whether the quad is a rectangle along the page's axes, within a pixel, read from left to right."""
    (left, top), (right, bottom) = quad.min(axis=0), quad.max(axis=0)
    straight = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    return bool(np.abs(quad - straight).max() <= 1.0)


def _upright(pixels: npt.NDArray[np.uint8], quad: Quad) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    left, top = np.floor(quad.min(axis=0) + 0.01).astype(int).clip(0, (width - 1, height - 1))
    right, bottom = np.ceil(quad.max(axis=0) - 0.01).astype(int).clip((left + 1, top + 1), (width, height))
    return pixels[top:bottom, left:right]


def _warped(pixels: npt.NDArray[np.uint8], quad: Quad, width: int, height: int) -> npt.NDArray[np.uint8]:
    # Pixel i covers [i, i + 1], and OpenCV counts from its centre.
    source = quad.astype(np.float32) - np.float32(0.5)
    target = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32) - np.float32(0.5)
    low = np.floor(source.min(axis=0) - 2).astype(int).clip(0)
    high = np.ceil(source.max(axis=0) + 3).astype(int)
    window = np.ascontiguousarray(pixels[low[1] : high[1], low[0] : high[0]])
    matrix = cv2.getPerspectiveTransform(source - low.astype(np.float32), target)
    warped = cv2.warpPerspective(
        window, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, np.uint8)
