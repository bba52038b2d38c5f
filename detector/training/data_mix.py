"""What the shipped weights learn from: data folders, the teacher's maps and synthetic pages, mixed by weight.

A data folder holds ICDAR-style folders td500, sroie, funsd (line ground truth), ic15, mlt17 (words: there the
teacher's map is the target), and plain folders of images: more (unlabelled photos with text) and backgrounds (photos
mostly without). What is absent is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import cv2
import numpy as np

from detector.errors import CorruptImage
from detector.evaluation.annotations import Sample, has_split, read_split
from detector.images.suffixes import is_page
from detector.postprocess import find_boxes
from detector.public.pypi_files import WheelFile
from detector.thresholds import Thresholds
from detector.training.dataset import TrainingPage, page_from_sample
from detector.training.teacher import CachedPage, Teacher, cache_page, check_names

TEACHER = WheelFile(
    "ppocrv6-small.onnx",
    "rapidocr==3.10.0",
    "rapidocr/models/PP-OCRv6_det_small.onnx",
    "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
)
"""PP-OCRv6 small, Apache-2.0: the best small line-level detector whose weights anybody may use."""

TEACHER_THRESHOLDS = Thresholds(binarize=0.3, box_threshold=0.6, unclip_ratio=1.5)


@dataclass(frozen=True, slots=True)
class Labelled:
    """How an ICDAR-style set takes part.

    Attributes:
        weight: in the mix.
        kind: of view, a key of `augment.VIEWS`.
        soft: the teacher's map is the target, because the ground truth is of words.
        limits: sizes at which the teacher looks.
        keep: long side kept, pixels.
    """

    weight: float
    kind: str
    soft: bool
    limits: tuple[int, ...]
    keep: int


LABELLED = {
    "td500": Labelled(3.8, "scene", False, (960, 736), 1024),
    "sroie": Labelled(4.2, "document", False, (1280,), 1280),
    "funsd": Labelled(4.6, "document", False, (1280,), 1280),
    "ic15": Labelled(0.5, "scene", True, (960, 736), 1024),
    "mlt17": Labelled(1.2, "scene", True, (960, 736), 1024),
}
UNLABELLED = {"more": (3.6, (960, 736), 1024), "backgrounds": (0.9, (640,), 640)}  # weight, limits, keep as above
SYNTHETIC = {"scene": 4.0, "document": 1.4}
TEXT_FREE = 0.25  # a photo on which the teacher's map stays below this serves as background for synthetic scenes

Groups = list[tuple[float, list[TrainingPage]]]


def read_map(path: Path) -> np.ndarray:
    """(H, W) float32 in [0, 1] of a cached 8-bit map.

    Raises:
        CorruptImage: not an image.
    """
    stored = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if stored is None:
        raise CorruptImage(f"{path}: cannot be decoded; delete it to have it made again")
    return stored.astype(np.float32) / 255


def teacher_quads(cached: CachedPage) -> np.ndarray:
    """(N, 4, 2) float32 boxes of the cached map."""
    known = read_map(cached.teacher)
    boxes = find_boxes(known, (1.0, 1.0), (known.shape[1], known.shape[0]), TEACHER_THRESHOLDS)
    return np.array([box.points for box in boxes], np.float32).reshape(-1, 4, 2)


def soft_page(cached: CachedPage, words: np.ndarray | None = None) -> TrainingPage:
    """A page whose target is the teacher's map; words of its own ground truth are don't-care where it sees none."""
    lines = teacher_quads(cached)
    extra = np.zeros((0, 4, 2), np.float32) if words is None else words
    ignore = np.repeat([False, True], [len(lines), len(extra)])
    return TrainingPage(cached.image, np.concatenate([lines, extra]), ignore, cached.teacher, soft=True, kind="scene")


def labelled_pages(samples: Sequence[Sample], folder: Path, teacher: Teacher, how: Labelled) -> list[TrainingPage]:
    """Pages of an ICDAR-style set, with the teacher's maps cached in ``folder``."""
    check_names([sample.image for sample in samples])
    pages = []
    for sample in samples:
        cached = cache_page(sample.image, folder, teacher, limits=how.limits, keep_side=how.keep)
        own = page_from_sample(sample, how.kind)
        quads = (own.quads * cached.scale).astype(np.float32)
        if how.soft:
            pages.append(soft_page(cached, quads))
        else:
            pages.append(TrainingPage(cached.image, quads, own.ignore, cached.teacher, kind=how.kind))
    return pages


def images_in(folder: Path) -> list[Path]:
    """The images of a plain folder, sorted; none if it is not there."""
    return sorted(file for file in folder.glob("*") if is_page(PurePath(file.name)))


def collect(data: Path, run: Path, teacher: Teacher, synthetic: int) -> Groups:
    """All groups of the mix with their weights; maps and synthetic pages are kept in ``run``, and made only once."""
    groups: Groups = []
    for name, how in LABELLED.items():
        if has_split(data / name, "train"):
            samples = read_split(data / name, "train")
            groups.append((how.weight, labelled_pages(samples, run / "cache" / name, teacher, how)))
    for name, (weight, limits, keep) in UNLABELLED.items():
        files = images_in(data / name)
        check_names(files)
        cached = [cache_page(file, run / "cache" / name, teacher, limits=limits, keep_side=keep) for file in files]
        groups.append((weight, [soft_page(page) for page in cached]))
    if synthetic:
        from detector.training.synth.render import render

        render(run / "synthetic", range(synthetic), text_free_photos(run))
        drawn = read_split(run / "synthetic", "train")
        for kind, weight in SYNTHETIC.items():
            groups.append((weight, [page_from_sample(s, kind) for s in drawn if s.image.name.startswith(kind)]))
    return [(weight, pages) for weight, pages in groups if pages]


def counts(data: Path, synthetic: int) -> dict[str, int]:
    """How many training images `collect` takes, by the name of the folder (or "synthetic")."""
    labelled = {name: len(read_split(data / name, "train")) for name in LABELLED if has_split(data / name, "train")}
    return labelled | {name: len(images_in(data / name)) for name in UNLABELLED} | {"synthetic": synthetic}


def text_free_photos(run: Path) -> list[Path]:
    """The cached background photos on which the teacher sees no text at all."""
    maps = sorted((run / "cache" / "backgrounds").glob("*.teacher.png"))
    return [
        path.with_name(path.name.replace(".teacher.png", ".jpg")) for path in maps if read_map(path).max() < TEXT_FREE
    ]


def calibration_images(data: Path, count: int) -> list[Path]:
    """About ``count`` training images, evenly from all labelled sets: the pages that int8 is calibrated on."""
    from detector.convert.quantize import spread

    sets = [read_split(data / name, "train") for name in LABELLED if has_split(data / name, "train")]
    share = -(-count // max(1, len(sets)))
    return [image for samples in sets for image in spread([sample.image for sample in samples], share)]
