"""A stronger detector as teacher: probability maps from any DB-family ONNX file, cached as images.

Maps are computed once per image and stored as 8-bit PNG beside a shrunk JPEG copy of the image, because running the
teacher costs far more than a training step on the same crop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from detector.errors import ModelError, first_line
from detector.evaluation.annotations import AnnotationError
from detector.images.page import open_page, page_header
from detector.models import IMAGENET_MEAN, IMAGENET_STD
from detector.runtimes.onnx_alone import onnx_options, read_onnx
from detector.runtimes.output import check_finite
from detector.runtimes.torch import has_bf16_instructions
from detector.training.run_folder import write_picture


def input_size(height: int, width: int, limit: int) -> tuple[int, int]:
    """Network input (height, width): long side at most ``limit``, only ever shrunk, sides multiples of 32."""
    scale = min(1.0, limit / max(height, width))
    return max(32, round(height * scale / 32) * 32), max(32, round(width * scale / 32) * 32)


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes with area averaging when shrinking (no aliasing of thin strokes), bilinear otherwise."""
    shrinking = height < pixels.shape[0] or width < pixels.shape[1]
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)


Run = Callable[[np.ndarray], np.ndarray]
"""(1, 3, H, W) float32 -> (H, W) float32."""


def _load_onnxruntime(model: Path, threads: int) -> Run:
    import onnxruntime

    options = onnx_options()
    options.intra_op_num_threads = threads
    try:
        session: Any = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no public base class
        raise _refusal(model, "ONNX Runtime", error) from None
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0][0, 0]


def _load_openvino(model: Path, threads: int) -> Run:
    import openvino

    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "bf16", "CPU_RUNTIME_CACHE_CAPACITY": 0}
    try:
        request: Any = openvino.Core().compile_model(read_onnx(model), "CPU", options).create_infer_request()
    except RuntimeError as error:
        raise _refusal(model, "OpenVINO", error) from None
    return lambda batch: request.infer({0: batch}, share_inputs=True, share_outputs=False)[0][0, 0]


def _refusal(model: Path, library: str, error: Exception) -> ModelError:
    return ModelError(f"{model}: {library} cannot load it as teacher: {first_line(error)}")


class Teacher:
    """Runs a DB-family ONNX detector.

    Args:
        model: the ONNX file; one image input (N, 3, H, W), first output a probability map (N, 1, H, W).
        bgr: channel order; the PP-OCR models were trained on BGR with ImageNet's mean and std in this order.
        threads: intra-op threads.
    """

    def __init__(self, model: Path, *, bgr: bool = True, threads: int = 2) -> None:
        # Maps in bf16 differ from fp32 ones by .0006 and cost a third of ONNX Runtime's time (Zen 4).
        quick = has_bf16_instructions() and find_spec("openvino") is not None
        self._run = (_load_openvino if quick else _load_onnxruntime)(model, threads)
        self._bgr = bgr

    def probability(self, pixels: np.ndarray, limit: int, *, bgr: bool | None = None) -> np.ndarray:
        """Probability map of a page.

        Args:
            pixels: (H, W, 3) uint8 RGB.
            limit: longest side of the network's input, pixels.
            bgr: overrides the teacher's channel order.

        Returns:
            (H, W) float32 in [0, 1], resized to the page.

        Raises:
            NetworkFailed: the map is not finite; it would be learnt as a page without text.
        """
        height, width = pixels.shape[:2]
        scaled = resize(pixels, *input_size(height, width, limit))
        if self._bgr if bgr is None else bgr:
            scaled = scaled[..., ::-1]
        mean, std = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_STD, np.float32)
        batch = (scaled.astype(np.float32) / np.float32(255) - mean) / std
        batch = np.ascontiguousarray(batch.transpose(2, 0, 1)[None], np.float32)
        output = self._run(batch)
        check_finite(output)
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


class Maps(Protocol):
    """What makes maps of pages: `Teacher`, or any other."""

    def ensemble(self, pixels: np.ndarray, limits: tuple[int, ...]) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> (H, W) float32 in [0, 1], the mean map over several sizes."""
        ...


def check_names(images: Sequence[Path]) -> None:
    """Copies and maps are kept by the image's name without its ending.

    Raises:
        AnnotationError: two images share such a name.
    """
    seen = dict[str, Path]()
    for image in images:
        if (other := seen.setdefault(image.stem, image)) is not image:
            raise AnnotationError(f"{image}: beside {other.name} its map would be the same file; rename one of them")


def cached_page(image: Path, folder: Path) -> CachedPage | None:
    """What `cache_page` wrote before; None if it has not yet."""
    copy, target = folder / f"{image.stem}.jpg", folder / f"{image.stem}.teacher.png"
    if not (copy.is_file() and target.is_file()):
        return None
    return CachedPage(copy, target, page_header(copy).upright_size[0] / page_header(image).upright_size[0])


def cache_page(image: Path, folder: Path, teacher: Maps, *, limits: tuple[int, ...], keep_side: int) -> CachedPage:
    """Writes ``STEM.jpg`` (long side at most ``keep_side``) and ``STEM.teacher.png``; skips what exists.

    Raises:
        ImageError: the image cannot be opened.
    """
    if known := cached_page(image, folder):
        return known
    copy, target = folder / f"{image.stem}.jpg", folder / f"{image.stem}.teacher.png"
    folder.mkdir(parents=True, exist_ok=True)
    page = open_page(image, limit_side=keep_side)
    found = np.round(teacher.ensemble(page.pixels, limits) * 255).astype(np.uint8)
    write_picture(copy, page.pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 94], sync=True)
    write_picture(target, found, [cv2.IMWRITE_PNG_COMPRESSION, 1], sync=True)
    return CachedPage(copy, target, page.pixels.shape[1] / page.width)
