"""Tiny data folders for training tests: dark bars (the 'text') on light paper."""

from pathlib import Path

import cv2
import numpy as np


def make_pages(folder: Path, count: int, split: str = "train", side: int = 160) -> Path:
    """Writes an ICDAR-style split of ``count`` square pages with two striped bars each, smaller on pages under 160."""
    images, gts = folder / f"{split}_images", folder / f"{split}_gts"
    images.mkdir(parents=True)
    gts.mkdir(parents=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        page = np.full((side, side, 3), 235, np.uint8)
        rows = []
        for top in (20, 90):
            x, y = int(rng.integers(8, 40)), top + int(rng.integers(0, 20))
            width, height = int(rng.integers(60, 100)), int(rng.integers(18, 28))
            x, y, width, height = (value * min(side, 160) // 160 for value in (x, y, width, height))
            page[y : y + height, x : x + width : 4] = 20
            page[y : y + height, x + 1 : x + width : 4] = 20
            rows.append(f"{x},{y},{x + width},{y},{x + width},{y + height},{x},{y + height},bar")
        cv2.imwrite(str(images / f"p{number}.png"), page)
        (gts / f"p{number}.txt").write_text("\n".join(rows) + "\n")
    return folder
