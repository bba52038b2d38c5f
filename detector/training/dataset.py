"""Pages and how a training batch is drawn from them.

Every random choice depends only on (seed, step, place in the batch): a resumed run draws exactly the batches that an
unbroken one would have drawn, with no generator state to save.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from detector.convert.interrupts import interrupt_later
from detector.errors import CorruptImage, ImageError
from detector.evaluation.annotations import SPLITS, AnnotationError, Sample, find_problems, has_split, read_split
from detector.images.page import open_page, page_header
from detector.models import IMAGENET_MEAN, IMAGENET_STD
from detector.training.augment import VIEWS, View, change_look, choose_matrix, move_points, warp
from detector.training.targets import Targets, draw_targets

MAX_SIDE = 2048  # larger training images are read reduced, so that memory does not depend on the user's camera


@dataclass(frozen=True, slots=True)
class TrainingPage:
    """One image with what is known about its text.

    Attributes:
        image: the file.
        quads: (N, 4, 2) float32 corners in the file's pixels.
        ignore: (N,) bool.
        teacher: 8-bit map of the same size as the image, or None.
        soft: the teacher's map is the target (the truth is on another level, or missing).
        kind: key of augment.VIEWS.
        view: instead of that kind's.
    """

    image: Path
    quads: np.ndarray
    ignore: np.ndarray
    teacher: Path | None = None
    soft: bool = False
    kind: str = "page"
    view: View | None = None


def page_from_sample(sample: Sample, kind: str = "page") -> TrainingPage:
    """A page with its own ground truth; raises AnnotationError for a bad file."""
    regions = sample.regions()
    quads = np.array([region.points for region in regions], np.float32).reshape(-1, 4, 2)
    return TrainingPage(sample.image, quads, np.array([region.ignore for region in regions], bool), kind=kind)


def read_pixels(path: Path, max_side: int = MAX_SIDE) -> tuple[np.ndarray, float]:
    """Upright RGB pixels with the long side at most ``max_side``, and the factor from original pixels to these.

    Raises:
        ImageError: NotFound, CorruptImage, UnsupportedFormat or TooLarge.
    """
    page = open_page(path, limit_side=max_side)
    return page.pixels, page.pixels.shape[1] / page.width


@dataclass(frozen=True, slots=True)
class OpenPage:
    """A page in memory.

    Attributes:
        page: where it comes from.
        pixels: (H, W, 3) uint8 RGB.
        quads: (N, 4, 2) float32 corners in these pixels.
        known: (H, W) uint8, the teacher's map, or None.
    """

    page: TrainingPage
    pixels: np.ndarray
    quads: np.ndarray
    known: np.ndarray | None


def open_training_page(page: TrainingPage) -> OpenPage:
    """Reads a page and the teacher's map of it.

    Raises:
        ImageError: one of them cannot be opened.
    """
    pixels, scale = read_pixels(page.image)
    known = None
    if page.teacher is not None:
        known = cv2.imread(str(page.teacher), cv2.IMREAD_GRAYSCALE)
        if known is None:
            raise CorruptImage(f"{page.teacher}: cannot be decoded as an image")
        if known.shape != pixels.shape[:2]:
            known = cv2.resize(known, (pixels.shape[1], pixels.shape[0]), interpolation=cv2.INTER_LINEAR)
    return OpenPage(page, pixels, page.quads * np.float32(scale), known)


def draw_crop(
    opened: OpenPage, crop: int, rng: np.random.Generator, augment: bool = True
) -> tuple[np.ndarray, Targets]:
    """One random crop of a page in memory.

    Returns:
        (crop, crop, 3) uint8 RGB, and its targets.
    """
    page, pixels = opened.page, opened.pixels
    shape, view = (pixels.shape[0], pixels.shape[1]), page.view or VIEWS[page.kind]
    matrix = choose_matrix(rng, shape, opened.quads, crop, view)
    border = int(rng.integers(0, 256))
    picture = warp(pixels, matrix, crop, (border, border, border))
    teacher = None if opened.known is None else warp(opened.known, matrix, crop, 0).astype(np.float32) / 255
    quads = move_points(opened.quads, matrix)
    targets = draw_targets(quads, page.ignore, (crop, crop), teacher=teacher, soft=page.soft)
    return change_look(rng, picture) if augment else picture, targets


def make_crop(
    page: TrainingPage, crop: int, rng: np.random.Generator, augment: bool = True
) -> tuple[np.ndarray, Targets]:
    """One random crop of a page that is read for it.

    Returns:
        (crop, crop, 3) uint8 RGB, and its targets.
    """
    return draw_crop(open_training_page(page), crop, rng, augment)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """(N, H, W, 3) uint8 RGB -> (N, 3, H, W) float32, ImageNet-normalised, channels_last."""
    mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255
    std = torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - mean) / std


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch: image (N, 3, S, S) float32 normalised; targets (N, 4, S, S): probability, weight, threshold, band."""

    image: Tensor
    targets: Tensor


class BatchSource:
    """Draws batches from weighted groups of pages.

    Args:
        groups: (weight, pages) pairs; a group is chosen by weight, then a page of it uniformly.
        seed: of the run.
    """

    def __init__(self, groups: Sequence[tuple[float, Sequence[TrainingPage]]], seed: int) -> None:
        self._groups = [pages for _, pages in groups if len(pages)]
        weights = np.array([weight for weight, pages in groups if len(pages)], np.float64)
        if not self._groups:
            raise AnnotationError("no training pages: give more images with ground truth")
        self._weights = weights / weights.sum()
        self._seed = seed

    def batch(self, step: int, crop: int, size: int) -> Batch:
        """The batch of a step; the same for the same arguments, always."""
        images, targets = np.empty((size, crop, crop, 3), np.uint8), np.empty((size, 4, crop, crop), np.float32)
        for place in range(size):
            rng = np.random.default_rng((self._seed, step, place))
            pages = self._groups[rng.choice(len(self._groups), p=self._weights)]
            images[place], drawn = make_crop(pages[int(rng.integers(len(pages)))], crop, rng)
            targets[place] = drawn.probability, drawn.weight, drawn.threshold, drawn.band
        return Batch(to_tensor(images), torch.from_numpy(targets))

    def stream(self, plan: Sequence[tuple[int, int, int]], ahead: int = 3) -> Generator[Batch]:
        """Batches of a plan of (step, crop, size), drawn ahead in a thread (OpenCV works outside the GIL).

        A thread that is inside torch or OpenCV when the interpreter ends aborts the process. So it is none of Python's
        daemons, and Ctrl-C waits for its start and for its end: a start that is interrupted leaves a thread that nobody
        knows, and an interrupted join counts it as ended while it runs (CPython 3.11's _wait_for_tstate_lock).
        """
        steps, thread = iter(plan), ThreadPoolExecutor(1, "batches")
        try:
            with interrupt_later():
                drawn = deque(thread.submit(self.batch, *step) for step in islice(steps, ahead))
            while drawn:
                batch = drawn.popleft().result()
                drawn.extend(thread.submit(self.batch, *step) for step in islice(steps, 1))
                yield batch
        finally:
            with interrupt_later():
                thread.shutdown(cancel_futures=True)


def check_data(folder: Path) -> list[str]:
    """Problems of a data folder, one line each; a missing training split is one, and so is a file that is no image."""
    problems = find_problems(folder)
    if not problems and not has_split(folder, "train"):
        problems.append(f"{folder}: has no train_list.txt and no train_images/")
    for split in SPLITS if not problems else ():
        for sample in read_split(folder, split) if has_split(folder, split) else ():
            try:
                page_header(sample.image)  # an hour later a bad one would end the run
            except ImageError as error:
                problems.append(str(error))
    return problems


def describe_data(folder: Path) -> str:
    """How many images each split has, in words."""
    return (
        ", ".join(f"{len(read_split(folder, split))} {split}" for split in SPLITS if has_split(folder, split))
        + " images"
    )
