"""Pages on their side: what the second look finds, and what it costs upright pages.

    python tests/bench/bench_turned.py FOLDER... [--most 60] [--skip 0] [--limit-side 960]

Each upright page of the folders is looked at as it is, and turned by 90 and by 270 degrees. "found": of the boxes of
the upright page, those that a box of the turned page, turned back, meets with an IoU of 0.5 or more, once with the
first look alone and once with the second.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from detector.images.turning import lies_on_its_side
from detector.postprocess import Box
from detector.predictor import Detection, TextDetector

Sides = np.ndarray


def sides(boxes: Sequence[Box]) -> Sides:
    """(N, 4) float: left, top, right, bottom."""
    corners = np.array([box.points for box in boxes], np.float64).reshape(-1, 4, 2)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def turned_back(found: Sides, quarters: int, width: int, height: int) -> Sides:
    """Sides on a page that `np.rot90` turned by so many quarters -> sides on the upright page of this size."""
    left, top, right, bottom = found.T
    if quarters == 1:
        return np.stack([width - bottom, left, width - top, right], axis=1)
    return np.stack([top, height - right, bottom, height - left], axis=1)


def met(wanted: Sides, found: Sides) -> int:
    """How many of the wanted boxes a found one meets with an IoU of 0.5."""
    if not len(wanted) or not len(found):
        return 0
    low, high = np.maximum(wanted[:, None, :2], found[None, :, :2]), np.minimum(wanted[:, None, 2:], found[None, :, 2:])
    common = (high - low).clip(0).prod(axis=2)
    area = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (wanted, found)]
    return int((common / (area[0][:, None] + area[1][None] - common) >= 0.5).any(axis=1).sum())


class FirstLook(TextDetector):
    """A detector that looks once."""

    def _look_again(self, source, page, limit_side, channels, first, boxes):  # type: ignore[no-untyped-def]
        return first, boxes


def main() -> None:
    """Prints one row a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--most", type=int, default=60, help="pages of a folder")
    parser.add_argument("--skip", type=int, default=0, help="pages to leave out at the beginning")
    parser.add_argument("--limit-side", type=int, default=960)
    chosen = parser.parse_args()
    once, twice = (kind(limit_side=chosen.limit_side) for kind in (FirstLook, TextDetector))
    print("| pages | upright boxes | looked at twice, upright | turned: found, first look | found | twice | seconds |")
    print("|---|---|---|---|---|---|---|")
    for folder in chosen.folders:
        paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".webp", ".jpg", ".png")]
        paths = paths[chosen.skip : chosen.skip + chosen.most]
        boxes = needless = first = second = again = pages = 0
        seconds = [0.0, 0.0]

        def spent(found: Detection) -> float:
            return sum(found.seconds.values())

        for path in paths:
            pixels = np.asarray(Image.open(path).convert("RGB"))
            height, width = pixels.shape[:2]
            upright = twice.detect(pixels)
            needless += "turn" in upright.seconds
            if lies_on_its_side(upright.boxes):
                continue  # vertical script, or a page that lies on its side in the set
            wanted = sides(upright.boxes)
            for quarters in (1, 3):
                turned = np.ascontiguousarray(np.rot90(pixels, quarters))
                looks = once.detect(turned), twice.detect(turned)
                found = [met(wanted, turned_back(sides(look.boxes), quarters, width, height)) for look in looks]
                first, second = first + found[0], second + found[1]
                again += "turn" in looks[1].seconds
                boxes += len(wanted)
                pages += 1
                seconds = [seconds[0] + spent(looks[0]), seconds[1] + spent(looks[1])]
        print(
            f"| {folder} | {boxes // 2} | {needless} of {len(paths)} | {first / boxes:.3f} | {second / boxes:.3f} | "
            f"{again} of {pages} | {seconds[0] / pages:.2f} -> {seconds[1] / pages:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
