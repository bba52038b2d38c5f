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

from detector.training.synth_document import make_document
from detector.training.synth_scene import make_scene

DOCUMENT_SHARE = 0.3
NEGATIVE_SHARE = 0.08


def plain_ground(rng: np.random.Generator) -> np.ndarray:
    """A background for want of a photo: smooth colours, stripes, bricks or noise; (H, W, 3) uint8."""
    height, width = int(rng.integers(420, 760)), int(rng.integers(420, 960))
    coarse = rng.integers(0, 256, (int(rng.integers(2, 7)), int(rng.integers(2, 7)), 3)).astype(np.uint8)
    ground = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    kind = rng.random()
    if kind < 0.3:
        step = int(rng.integers(8, 60))
        for y in range(0, height, step):
            cv2.line(ground, (0, y), (width, y), rng.integers(0, 256, 3).tolist(), int(rng.integers(1, 4)))
            if kind < 0.15:
                for x in range((y // step % 2) * step, width, 2 * step):
                    cv2.line(ground, (x, y), (x, y + step), rng.integers(0, 256, 3).tolist(), 2)
    elif kind < 0.5:
        ground = np.clip(ground + rng.normal(0, 25, ground.shape), 0, 255).astype(np.uint8)
    return ground


def add_patterns(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Lays fins, fences, windows or dots in perspective on a picture: regular marks that are not text."""
    height, width = picture.shape[:2]
    picture = picture.copy()
    for _ in range(int(rng.integers(1, 4))):
        size = int(rng.integers(80, 400))
        tile = np.zeros((size, size), np.uint8)
        step = int(rng.integers(5, 40))
        thick = max(1, int(step * rng.uniform(0.15, 0.7)))
        kind = rng.random()
        for place in range(0, size, step):
            if kind < 0.7:
                tile[place : place + thick] = 255
            if 0.4 < kind < 0.7:
                tile[:, place : place + max(1, thick // 3)] = 255
            if kind >= 0.7:
                for across in range(0, size, step):
                    cv2.circle(tile, (across, place), thick // 2 + 1, 255, -1)
        corners = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float32)
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        target = (corners - size / 2) @ np.diag([rng.uniform(0.4, 1.6), rng.uniform(0.4, 1.2)]) @ turn.T
        target += rng.uniform(-0.15, 0.15, (4, 2)) * size + rng.random(2) * (width, height)
        matrix = cv2.getPerspectiveTransform(corners, target.astype(np.float32))
        cover = cv2.warpPerspective(tile, matrix, (width, height), flags=cv2.INTER_AREA).astype(np.float32)[..., None]
        cover *= float(rng.uniform(0.4, 1)) / 255
        picture = (picture * (1 - cover) + rng.integers(0, 256, 3) * cover).astype(np.uint8)
    return picture


def _photo(rng: np.random.Generator, photos: Sequence[Path]) -> np.ndarray:
    if not photos or rng.random() < 0.15:
        return plain_ground(rng)
    read = cv2.imread(str(photos[int(rng.integers(len(photos)))]), cv2.IMREAD_COLOR)
    if read is None:
        return plain_ground(rng)
    scale = rng.uniform(640, 900) / max(read.shape[:2])
    size = (round(read.shape[1] * scale), round(read.shape[0] * scale))
    photo = cv2.cvtColor(cv2.resize(read, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(photo[:, ::-1]) if rng.random() < 0.5 else photo


def make_page(seed: int, number: int, photos: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, str]:
    """One page: (H, W, 3) uint8 RGB, (N, 4, 2) corners, and its kind ('scene' or 'document')."""
    rng = np.random.default_rng((seed, number))
    chance = rng.random()
    if chance < NEGATIVE_SHARE:
        return add_patterns(rng, _photo(rng, photos)), np.zeros((0, 4, 2), np.float32), "scene"
    if chance < NEGATIVE_SHARE + DOCUMENT_SHARE:
        photo = _photo(rng, photos) if rng.random() < 0.35 else None
        return *make_document(rng, photo), "document"
    ground = _photo(rng, photos)
    return *make_scene(rng, add_patterns(rng, ground) if rng.random() < 0.15 else ground), "scene"


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
        cv2.imwrite(str(images / f"{name}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        rows = [",".join(f"{value:.1f}" for value in quad.ravel()) + ",text" for quad in quads]
        (gts / f"{name}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
        lines += len(rows)
    return lines


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m detector.training.synth", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--photos", type=Path, help="folder of photos without text (or a text file listing them)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    photos: list[Path] = []
    if options.photos is not None:
        listed = options.photos.is_file()
        photos = (
            [Path(line) for line in options.photos.read_text(encoding="utf-8").splitlines() if line]
            if listed
            else sorted(file for file in options.photos.iterdir() if file.is_file())
        )
    cv2.setNumThreads(1)
    lines = render(options.out, range(options.first, options.first + options.count), photos, options.seed)
    print(f"{options.count} pages in {options.out}, {lines} new lines of text")


if __name__ == "__main__":
    main()
