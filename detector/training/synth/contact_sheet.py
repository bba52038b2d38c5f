"""A sheet of synthetic pages with their corners drawn: the quickest way to see what a change did.

python -m detector.training.synth.contact_sheet docs/synthetic.jpg
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from detector.overlay import write_jpeg
from detector.training.synth.render import make_page, read_photos

CELL = (300, 240)  # width and height of one page on the sheet, pixels
GREEN = (0, 220, 60)


def make_sheet(seed: int, numbers: Sequence[int], photos: Sequence[Path], columns: int = 6) -> np.ndarray:
    """Pages in rows.

    Args:
        seed: of the pages.
        numbers: which pages; what does not fill a row is left out.
        photos: backgrounds, as for `make_page`.
        columns: pages in a row.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    cells = []
    for number in numbers[: len(numbers) // columns * columns]:
        pixels, quads, _ = make_page(seed, number, photos)
        scale = min(CELL[0] / pixels.shape[1], CELL[1] / pixels.shape[0])
        size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        cv2.polylines(small, [np.round(quad * scale).astype(np.int32) for quad in quads], True, GREEN, 1, cv2.LINE_AA)
        cell = np.full((CELL[1], CELL[0], 3), 50, np.uint8)
        cell[: size[1], : size[0]] = small
        cells.append(cell)
    return np.vstack([np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)])


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m detector.training.synth.contact_sheet", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--photos", type=Path, help="folder of photos without text (or a text file listing them)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.count < 6:
        parser.error("--count: a row has 6 pages, ask for 6 or more")
    cv2.setNumThreads(1)
    numbers = range(options.first, options.first + options.count)
    try:
        sheet = make_sheet(options.seed, numbers, read_photos(options.photos))
        write_jpeg(sheet, options.out)
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
