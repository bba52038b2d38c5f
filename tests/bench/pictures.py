"""Pictures for benchmarks, drawn here: photo-like pages with text, and the large ones that break naive programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

WORDS = ("Invoice 2024-117", "Platform 9", "NO PARKING", "Total 1,284.50", "Quality since 1921", "Exit at the rear")


def draw(width: int, height: int, seed: int) -> npt.NDArray[np.uint8]:
    """(height, width, 3) uint8 BGR: soft colours and a few lines of text."""
    random = np.random.default_rng(seed)
    ground = random.integers(90, 255, (5, 6, 3), dtype=np.uint8)
    picture = np.asarray(cv2.resize(ground, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    scale = height / 480
    for number in range(5):
        text = WORDS[int(random.integers(len(WORDS)))]
        place = (int(width * 0.08), int(height * (0.15 + 0.17 * number)))
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 20), max(1, round(2 * scale)))
    return picture


def write_mixed(folder: Path, ordinary: int) -> list[Path]:
    """`ordinary` photos and eight that are large or odd: 12 MP, 80 MP JPEG and PNG, progressive, panorama, strip."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(ordinary):
        size = [(1280, 960), (960, 1280), (1600, 1200), (2048, 1365)][number % 4]
        cv2.imwrite(str(folder / f"photo{number:03}.jpg"), draw(*size, number))
    cv2.imwrite(str(folder / "phone12mp-a.jpg"), draw(4000, 3000, 901))
    cv2.imwrite(str(folder / "phone12mp-b.jpg"), draw(3000, 4000, 902))
    large = draw(10_000, 8_000, 903)
    cv2.imwrite(str(folder / "scan80mp.jpg"), large)
    cv2.imwrite(str(folder / "scan80mp.png"), large, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    cv2.imwrite(str(folder / "scan80mp-progressive.jpg"), large, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    del large
    cv2.imwrite(str(folder / "panorama.jpg"), draw(16_000, 2_000, 904))
    cv2.imwrite(str(folder / "strip.jpg"), draw(20_000, 60, 905))
    cv2.imwrite(str(folder / "gate.webp"), draw(3000, 2000, 906))
    return sorted(folder.iterdir())


def write_mixed_apart(folder: Path, ordinary: int) -> list[Path]:
    """`write_mixed` in a process of its own: Linux counts the memory of whoever forks into a child's peak RSS."""
    subprocess.run([sys.executable, __file__, str(folder), str(ordinary)], check=True)
    return sorted(folder.iterdir())


if __name__ == "__main__":
    write_mixed(Path(sys.argv[1]), int(sys.argv[2]))
