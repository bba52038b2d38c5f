"""The pictures that break small machines, drawn here in a process of its own: its memory must not count elsewhere.

    python tests/bench/giants.py FOLDER PDF-PAGES [SCAN...]

Writes 80 megapixel files (JPEG, PNG, progressive JPEG), a PDF of the scans (of drawn pages without any),
panoramas, a strip and tiny ones.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.pictures import draw

PDF = "giant.pdf"
PROGRESSIVE = "giant-80mp-progressive.jpg"
"""The only one that a 256 MB machine may refuse (TooLarge): all of its coefficients must be held, 3 bytes a pixel."""

FILES = 12


def write_giants(folder: Path, scans: list[Path], pdf_pages: int) -> None:
    """All of them into one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    large = draw(10_000, 8_000, 903)
    cv2.imwrite(str(folder / "giant-80mp-baseline.jpg"), large)
    cv2.imwrite(str(folder / "giant-80mp.png"), large, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    cv2.imwrite(str(folder / PROGRESSIVE), large, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    del large
    cv2.imwrite(str(folder / "panorama-a.jpg"), draw(20_000, 1_500, 904))
    cv2.imwrite(str(folder / "panorama-b.png"), draw(20_000, 1_500, 905), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    cv2.imwrite(str(folder / "panorama-upright.jpg"), draw(1_500, 20_000, 906))
    cv2.imwrite(str(folder / "strip.jpg"), draw(20_000, 60, 907))
    for width, height in ((1, 1), (7, 3), (16, 16), (64, 20)):
        cv2.imwrite(str(folder / f"tiny-{width}x{height}.png"), np.full((height, width, 3), 200, np.uint8))
    write_pdf(folder / PDF, scans, pdf_pages)


def write_pdf(path: Path, scans: list[Path], pages: int) -> None:
    """Each page is one picture as a scanner makes it: A4 at 300 dpi (8.7 megapixels), JPEG."""

    def page(number: int) -> Image.Image:
        if scans:
            scan = Image.open(scans[number % len(scans)]).convert("RGB")
        else:
            scan = Image.fromarray(draw(1240, 1754, number)[:, :, ::-1])
        return scan.resize((2480, 3508))

    first, *rest = range(pages)
    page(first).save(path, save_all=True, append_images=(page(number) for number in rest), resolution=300, quality=80)


def write_giants_apart(folder: Path, scans: list[Path], pdf_pages: int = 50) -> int:
    """`write_giants` in a process of its own. Returns how many pages there are."""
    subprocess.run([sys.executable, __file__, str(folder), str(pdf_pages), *map(str, scans)], check=True)
    return FILES - 1 + pdf_pages


if __name__ == "__main__":
    write_giants(Path(sys.argv[1]), [Path(name) for name in sys.argv[3:]], int(sys.argv[2]))
