"""Renders synthetic training pages into an ICDAR-style folder.

    python -m detector.training.synth OUT --count 2000 --photos FOLDER

Each page depends on (seed, its number) alone, so rendering can stop and go on, or be shared out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from detector.atomic import atomic_write
from detector.cli.say import tell
from detector.errors import read_text
from detector.evaluation.annotations import MOST_TEXT_BYTES
from detector.training.run_folder import write_picture
from detector.training.synth.background import add_patterns, pick_ground
from detector.training.synth.bars import add_bars
from detector.training.synth.document import make_document
from detector.training.synth.font import missing_packages
from detector.training.synth.scene import make_scene

DOCUMENT_SHARE = 0.25
NEGATIVE_SHARE = 0.2


def make_page(seed: int, number: int, photos: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, str]:
    """One page: (H, W, 3) uint8 RGB, (N, 4, 2) corners, and its kind ('scene' or 'document')."""
    rng = np.random.default_rng((seed, number))
    chance = rng.random()
    if chance < NEGATIVE_SHARE:
        ground = pick_ground(rng, photos)
        if rng.random() < 0.5:
            return *make_scene(rng, add_patterns(rng, ground), blank=True), "scene"
        barred = add_bars(rng, ground)
        if rng.random() < 0.5:
            return barred, np.zeros((0, 4, 2), np.float32), "scene"
        return *make_scene(rng, barred, blank=True), "scene"
    if chance < NEGATIVE_SHARE + DOCUMENT_SHARE:
        photo = pick_ground(rng, photos) if rng.random() < 0.35 else None
        return *make_document(rng, photo), "document"
    ground = pick_ground(rng, photos)
    return *make_scene(rng, add_patterns(rng, ground) if rng.random() < 0.25 else ground), "scene"


def render(folder: Path, numbers: Sequence[int], photos: Sequence[Path], seed: int = 0) -> int:
    """Renders pages that are not there yet into FOLDER/train_images and train_gts; returns how many lines they hold."""
    images, gts = folder / "train_images", folder / "train_gts"
    images.mkdir(parents=True, exist_ok=True)
    gts.mkdir(parents=True, exist_ok=True)
    lines = 0
    for number in numbers:
        kind_free = f"{number:06}"
        if any((gts / f"{kind}-{kind_free}.txt").is_file() for kind in ("scene", "document")):
            continue
        pixels, quads, kind = make_page(seed, number, photos)
        name = f"{kind}-{kind_free}"
        quality = int(np.random.default_rng((seed, number, 1)).integers(60, 96))
        bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        write_picture(images / f"{name}.jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        rows = [",".join(f"{value:.1f}" for value in quad.ravel()) + ",text" for quad in quads]
        with atomic_write(gts / f"{name}.txt") as unfinished:
            unfinished.write_text("\n".join(rows) + "\n", encoding="utf-8")
        lines += len(rows)
    return lines


def read_photos(place: Path | None) -> list[Path]:
    """Files of a folder, or those that a text file lists, one a line; none for None.

    Raises:
        OSError: there is no such folder or file.
    """
    if place is None:
        return []
    if place.is_file():
        return [Path(line) for line in read_text(place, MOST_TEXT_BYTES).splitlines() if line]
    return sorted(file for file in place.iterdir() if file.is_file())


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m detector.training.synth", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--photos", type=Path, help="folder of photos without text (or a text file listing them)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    missing = missing_packages()
    if missing:
        tell(f"less variety without these fonts: apt-get install {' '.join(missing)}")
    numbers = range(options.first, options.first + options.count)
    try:
        lines = render(options.out, numbers, read_photos(options.photos), options.seed)
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")
    tell(f"{options.count} pages in {options.out}, {lines} new lines of text")
