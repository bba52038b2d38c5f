"""What the shipped weights learn from: data folders, the teacher's maps and synthetic pages, mixed by weight.

A data folder holds ICDAR-style folders td500, sroie, funsd, lines/mtwi, lines/kannada (line ground truth), ic15, mlt17
(words: there the teacher's map is the target), and plain folders of images: scenes and docs (unlabelled, file names
begin with their source), more (unlabelled photos with text) and backgrounds (photos mostly without). What is absent is
left out, and so is what `held_out` keeps for choosing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
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
from detector.training.held_out import is_held_out, source_of, split_series
from detector.training.teacher import CachedPage, Maps, cache_page, cached_page, check_names

TEACHER = WheelFile(
    "ppocrv6-small.onnx",
    "rapidocr==3.10.0",
    "rapidocr/models/PP-OCRv6_det_small.onnx",
    "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
)
"""PP-OCRv6 small, Apache-2.0: the best small line-level detector whose weights anybody may use."""

TEACHER_THRESHOLDS = Thresholds(binarize=0.4, box_threshold=0.7, unclip_ratio=1.2)
"""PaddleOCR's 0.3 / 0.6 / 1.5 in our measures, see `detector.convert.import_onnx.CONVENTIONS`."""


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


# Weights add up to about 100, 70 of them photos: that is where 15 points are missing, documents are level.
LABELLED = {
    "td500": Labelled(9.0, "scene", False, (960, 736), 1024),
    "lines/mtwi": Labelled(1.5, "scene", False, (960, 736), 1024),
    "lines/kannada": Labelled(1.0, "document", False, (1280, 960), 1280),
    "funsd": Labelled(10.0, "document", False, (1280, 960), 1280),
    "sroie": Labelled(14.0, "document", False, (1280, 960), 1280),
    "mlt17": Labelled(6.0, "scene", True, (960, 736), 1024),
    "ic15": Labelled(4.0, "scene", True, (960, 736), 1024),
}


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """How a plain folder takes part; fields as in `Labelled`."""

    weight: float
    kind: str
    limits: tuple[int, ...]
    keep: int
    by_source: bool = False


UNLABELLED = {
    "backgrounds": Unlabelled(3.0, "scene", (640,), 640),
    "scenes": Unlabelled(24.0, "scene", (960, 736), 1024, by_source=True),
    "more": Unlabelled(9.0, "scene", (960, 736), 1024),
    "docs": Unlabelled(8.0, "document", (1280, 960), 1280, by_source=True),
}
SHELVES = frozenset({"GroceryStoreDataset", "book-spine-segmentation"})  # small print that needs a larger look
FAVOURED = frozenset({"book-spine-segmentation", "chineseocr", "demo", "shopsign"})
"""Spines, goods for sale, posters, shop signs: nearest to what the detector is used for, and worst agreed on."""
FAVOUR = 2.0
FEW = 10  # images: smaller sources are one group, or a single picture would be seen hundreds of times
SYNTHETIC = {"scene": 16.0, "document": 6.0}
ARCS, ARC_SHARE = 5.0, 0.04
"""Weight of the pages of words along arcs, and how many there are for each synthetic page."""
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


def soft_page(cached: CachedPage, words: np.ndarray | None = None, kind: str = "scene") -> TrainingPage:
    """A page whose target is the teacher's map; words of its own ground truth are don't-care where it sees none."""
    lines = teacher_quads(cached)
    extra = np.zeros((0, 4, 2), np.float32) if words is None else words
    ignore = np.repeat([False, True], [len(lines), len(extra)])
    return TrainingPage(cached.image, np.concatenate([lines, extra]), ignore, cached.teacher, soft=True, kind=kind)


def samples_of(data: Path, name: str) -> list[Sample]:
    """The training samples of a labelled set; none if it is not there."""
    if not has_split(data / name, "train"):
        return []
    samples = split_series(data / name)[0] if name == "td500" else read_split(data / name, "train")
    return [sample for sample in samples if not is_held_out(sample.image)]


def cache_folder(run: Path, name: str) -> Path:
    """Where a set's copies and maps are kept."""
    return run / "cache" / PurePath(name).name


@dataclass(frozen=True, slots=True)
class Maker:
    """Brings the teacher's maps of images.

    Attributes:
        run: where they are kept.
        teacher: makes those that are missing; None: pages without a map are left out.
    """

    run: Path
    teacher: Maps | None

    def page(self, image: Path, name: str, limits: tuple[int, ...], keep: int) -> CachedPage | None:
        """A page of the set ``name``; None if it has no map and none is to be made."""
        folder = cache_folder(self.run, name)
        if self.teacher is None:
            return cached_page(image, folder)
        if source_of(image) in SHELVES:
            limits, keep = (1280, 960), 1280
        return cache_page(image, folder, self.teacher, limits=limits, keep_side=keep)


def labelled_pages(samples: Sequence[Sample], name: str, maker: Maker, how: Labelled) -> list[TrainingPage]:
    """Pages of an ICDAR-style set, with the teacher's maps."""
    check_names([sample.image for sample in samples])
    pages = []
    for sample in samples:
        cached = maker.page(sample.image, name, how.limits, how.keep)
        if cached is None:
            continue
        own = page_from_sample(sample, how.kind)
        quads = (own.quads * cached.scale).astype(np.float32)
        if how.soft:
            pages.append(soft_page(cached, quads))
        else:
            pages.append(TrainingPage(cached.image, quads, own.ignore, cached.teacher, kind=how.kind))
    return pages


def images_in(folder: Path) -> list[Path]:
    """The images of a plain folder, sorted, without those that are held out; none if it is not there."""
    return sorted(file for file in folder.glob("*") if is_page(PurePath(file.name)) and not is_held_out(file))


def source_weights(sizes: Mapping[str, int]) -> dict[str, float]:
    """Shares of the sources of a set, by their number of images; they add up to 1.

    A source weighs as the root of its size: of `scenes`, shop fronts, groceries and cars are two thirds, and would be
    seen at the expense of the few dozen posters and spines.
    """
    weights = {name: math.sqrt(size) * (FAVOUR if name in FAVOURED else 1.0) for name, size in sizes.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def unlabelled_groups(files: Sequence[Path], name: str, maker: Maker, how: Unlabelled) -> Groups:
    """One group, or one for each source of images."""
    check_names(files)
    pages: dict[str, list[TrainingPage]] = {}
    sizes = Counter(source_of(file) for file in files)
    for file in files:
        if cached := maker.page(file, name, how.limits, how.keep):
            source = source_of(file) if how.by_source and sizes[source_of(file)] >= FEW else ""
            pages.setdefault(source, []).append(soft_page(cached, kind=how.kind))
    shares = source_weights({source: len(members) for source, members in pages.items()})
    return [(how.weight * shares[source], members) for source, members in pages.items()]


def arc_pages(folder: Path) -> list[TrainingPage]:
    """The pages of words along arcs that `render_arcs` wrote: their true map stands where else the teacher's does."""
    none, nothing = np.zeros((0, 4, 2), np.float32), np.zeros(0, bool)
    return [
        TrainingPage(image, none, nothing, image.with_suffix(".teacher.png"), soft=True, kind="scene")
        for image in sorted(folder.glob("*.jpg"))
    ]


def collect(data: Path, run: Path, teacher: Maps | None, synthetic: int) -> Groups:
    """All groups of the mix with their weights; maps and synthetic pages are kept in ``run``, and made only once.

    Args:
        data: folder, see above.
        run: folder of the run.
        teacher: None: only what has a map already takes part, and only synthetic pages that are there.
        synthetic: pages to draw.
    """
    maker = Maker(run, teacher)
    groups: Groups = []
    for name, how in LABELLED.items():
        groups.append((how.weight, labelled_pages(samples_of(data, name), name, maker, how)))
    for name, plain in UNLABELLED.items():
        groups += unlabelled_groups(images_in(data / name), name, maker, plain)
    if synthetic:
        from detector.training.synth.arcs import render_arcs
        from detector.training.synth.render import render

        folder, arcs = run / "synthetic", run / "arcs"
        if teacher is not None:
            render(folder, range(synthetic), text_free_photos(run))
            render_arcs(arcs, range(round(synthetic * ARC_SHARE)), text_free_photos(run))
        drawn = read_split(folder, "train") if has_split(folder, "train") else []
        for kind, weight in SYNTHETIC.items():
            groups.append((weight, [page_from_sample(s, kind) for s in drawn if s.image.name.startswith(kind)]))
        groups.append((ARCS, arc_pages(arcs)))
    return [(weight, pages) for weight, pages in groups if pages]


def counts(data: Path, synthetic: int) -> dict[str, int]:
    """How many training images `collect` takes, by the name of the folder (or "synthetic")."""
    labelled = {name: len(samples_of(data, name)) for name in LABELLED if has_split(data / name, "train")}
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

    sets = [samples for name in LABELLED if (samples := samples_of(data, name))]
    share = -(-count // max(1, len(sets)))
    return [image for samples in sets for image in spread([sample.image for sample in samples], share)]
