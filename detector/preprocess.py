"""Pixels -> the network's input, into memory that is used again."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from detector.images.sizes import STRIDE

KEPT_BYTES = 3 * 4 * 672 * 672
"""Input of pages up to this size (a tile) keeps its memory from page to page. Fresh memory costs 2 ms a page: the
system must find and clear it piece by piece. Larger input lives as long as its page."""

Pixels = npt.NDArray[np.uint8]
Three = tuple[float, float, float]


class Normaliser:
    """Makes the network's input.

    Args:
        mean, std: of the channels in [0, 1], in the network's order, as the model's card says.
        channels: that order, "rgb" or "bgr".
        stretch: shrink each side to a multiple of 32 instead of padding it to one.
    """

    def __init__(self, mean: Three, std: Three, channels: str = "rgb", *, stretch: bool = False) -> None:
        values = np.arange(256, dtype=np.float32) / np.float32(255)
        self._tables = [(values - np.float32(m)) / np.float32(s) for m, s in zip(mean, std, strict=True)]
        self._order = (2, 1, 0) if channels == "bgr" else (0, 1, 2)
        self._stretch = stretch
        self._seen = (0, 0)
        self._kept = np.empty(0, np.float32)
        self._kept_plane = np.empty(0, np.uint8)

    def __call__(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Normalises and pads right and below to multiples of 32 with zeros.

        Zero is the mean colour: no edge towards black that could look like a stroke, and no pixel of the page is
        resampled a second time, as stretching to multiples of 32 would. A network that never saw a padded page wants
        that all the same (PaddleOCR's DetResizeForTest stretches): PP-OCRv6 takes whole photos without text for text
        where they are padded, 26 of 80, and none where they are shrunk.

        Args:
            pixels: (H, W, 3) uint8 RGB.

        Returns:
            (1, 3, H', W') float32, good until the next call.
        """
        if self._stretch:
            pixels = _shrunk(pixels)
        height, width = self._seen = pixels.shape[:2]
        batch, plane = self._buffers(math.ceil(height / STRIDE) * STRIDE, math.ceil(width / STRIDE) * STRIDE)
        plane = plane[: height * width].reshape(height, width)
        batch[:, :, height:] = 0
        batch[:, :, :height, width:] = 0
        for channel, table in enumerate(self._tables):
            cv2.extractChannel(pixels, self._order[channel], dst=plane)
            cv2.LUT(plane, table, dst=batch[0, channel, :height, :width])
        return batch

    def restore(self, found: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
        """The network's (H', W') map of the last page: without its padding, at the page's own height and width."""
        found = found[: self._seen[0], : self._seen[1]]
        if found.shape == (height, width):
            return found
        return np.asarray(cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)

    def _buffers(self, height: int, width: int) -> tuple[npt.NDArray[np.float32], Pixels]:
        """A (1, 3, height, width) batch, and as many bytes as one of its channels has pixels."""
        size = 3 * height * width
        batch, plane = self._kept, self._kept_plane
        if size > batch.size:
            batch, plane = np.empty(size, np.float32), np.empty(height * width, np.uint8)
            if batch.nbytes <= KEPT_BYTES:
                self._kept, self._kept_plane = batch, plane
        return batch[:size].reshape(1, 3, height, width), plane


def _shrunk(pixels: Pixels) -> Pixels:
    """The page with both sides at the multiple of 32 that is just below; a side under 32 px stays, and is padded."""
    height, width = pixels.shape[:2]
    size = (max(width // STRIDE * STRIDE, min(width, STRIDE)), max(height // STRIDE * STRIDE, min(height, STRIDE)))
    if size == (width, height):
        return pixels
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def normalise(pixels: Pixels, mean: Three, std: Three, *, stretch: bool = False) -> npt.NDArray[np.float32]:
    """One page as `Normaliser` makes it, in memory of its own."""
    return Normaliser(mean, std, stretch=stretch)(pixels)
