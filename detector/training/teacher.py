"""A stronger detector as teacher: probability maps from any DB-family ONNX file, cached as images.

Maps are computed once per image and stored as 8-bit PNG beside a shrunk JPEG copy of the image, because running the
teacher costs far more than a training step on the same crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def input_size(height: int, width: int, limit: int) -> tuple[int, int]:
    """Network input (height, width): long side at most ``limit``, only ever shrunk, sides multiples of 32."""
    scale = min(1.0, limit / max(height, width))
    return max(32, round(height * scale / 32) * 32), max(32, round(width * scale / 32) * 32)


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes with area averaging when shrinking (no aliasing of thin strokes), bilinear otherwise."""
    shrinking = height < pixels.shape[0] or width < pixels.shape[1]
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)


class Teacher:
    """Runs a DB-family ONNX detector.

    Args:
        model: the ONNX file; one image input (N, 3, H, W), first output a probability map (N, 1, H, W).
        bgr: channel order; the PP-OCR models were trained on BGR with ImageNet's mean and std in this order.
        threads: intra-op threads.
    """

    def __init__(self, model: Path, *, bgr: bool = True, threads: int = 2) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session: Any = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._bgr = bgr

    def probability(self, pixels: np.ndarray, limit: int, *, bgr: bool | None = None) -> np.ndarray:
        """Probability map of a page.

        Args:
            pixels: (H, W, 3) uint8 RGB.
            limit: longest side of the network's input, pixels.
            bgr: overrides the teacher's channel order.

        Returns:
            (H, W) float32 in [0, 1], resized to the page.
        """
        height, width = pixels.shape[:2]
        scaled = resize(pixels, *input_size(height, width, limit))
        if self._bgr if bgr is None else bgr:
            scaled = scaled[..., ::-1]
        mean, std = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_STD, np.float32)
        batch = (scaled.astype(np.float32) / np.float32(255) - mean) / std
        batch = np.ascontiguousarray(batch.transpose(2, 0, 1)[None], np.float32)
        output = self._session.run(None, {self._input: batch})[0][0, 0]
        return np.asarray(cv2.resize(output, (width, height), interpolation=cv2.INTER_LINEAR))

    def ensemble(self, pixels: np.ndarray, limits: tuple[int, ...]) -> np.ndarray:
        """Mean map over several sizes, alternating the channel order: steadier than any one of them."""
        maps = [self.probability(pixels, limit, bgr=self._bgr ^ (i % 2 == 1)) for i, limit in enumerate(limits)]
        return np.asarray(np.mean(maps, axis=0, dtype=np.float32))


@dataclass(frozen=True, slots=True)
class CachedPage:
    """A shrunk copy of an image and the teacher's map of it, same size."""

    image: Path
    teacher: Path
    scale: float


def cache_page(image: Path, folder: Path, teacher: Teacher, *, limits: tuple[int, ...], keep_side: int) -> CachedPage:
    """Writes ``STEM.jpg`` (long side at most ``keep_side``) and ``STEM.teacher.png``; skips what exists.

    Raises:
        ValueError: the image cannot be decoded.
    """
    pixels = cv2.imread(str(image), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f"{image}: cannot be decoded")
    scale = min(1.0, keep_side / max(pixels.shape[:2]))
    copy, target = folder / f"{image.stem}.jpg", folder / f"{image.stem}.teacher.png"
    if not (copy.is_file() and target.is_file()):
        folder.mkdir(parents=True, exist_ok=True)
        if scale < 1:
            pixels = resize(pixels, round(pixels.shape[0] * scale), round(pixels.shape[1] * scale))
        cv2.imwrite(str(copy), pixels, [cv2.IMWRITE_JPEG_QUALITY, 94])
        found = teacher.ensemble(np.ascontiguousarray(pixels[..., ::-1]), limits)
        cv2.imwrite(str(target), np.round(found * 255).astype(np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return CachedPage(copy, target, scale)
