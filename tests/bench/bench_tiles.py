"""Whole pages beside tiles: hmean, time and memory of limit 640, limit 1280 and the accurate profile.

    python tests/bench/bench_tiles.py --data FOLDER [--data FOLDER ...] [--model NAME-OR-FILE] [--images 200]
    python tests/bench/bench_tiles.py                 (draws dense pages of its own: A4 at 300 dpi, print of 6 to 28 pt)

FOLDER holds val_images and val_gts. Every row runs in a process of its own; CPU ms is the median of what an image costs
a CPU core, which other programs on the machine disturb less than they do the clock. The last column is the peak over
that of limit 640.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).parents[2]))

from detector.evaluation.annotations import read_split
from detector.evaluation.evaluate import score_image, summarise
from detector.memory import configure_process
from detector.predictor import TextDetector
from detector.profile import PROFILES
from tests.bench.peak import own_peak_mb

WIDTH, HEIGHT, DPI = 2480, 3508, 300
WORDS = ("the", "total", "amount due", "of each party", "within", "30 days", "1,284.50", "Terms", "No. 88-1203")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    label: str
    limit_side: int
    tiled: bool


ACCURATE = PROFILES["accurate"]
ROWS = (
    Row("untiled 640", 640, False),
    Row("untiled 1280", 1280, False),
    Row(f"accurate ({ACCURATE.limit_side}, tiled)", ACCURATE.limit_side, ACCURATE.tiled),
)


def draw_a4(seed: int) -> tuple[np.ndarray, list[tuple[float, float, float, float]]]:
    """(3508, 2480) uint8, a printed page as a scanner sees it, and the (left, top, right, bottom) of its lines."""
    chance, noise = random.Random(seed), np.random.default_rng(seed)
    page = Image.new("L", (WIDTH, HEIGHT), 250)
    pen = ImageDraw.Draw(page)
    lines = []

    def write(x: float, y: float, text: str, points: float) -> float:
        font = ImageFont.load_default(points * DPI / 72)
        pen.text((x, y), text, fill=chance.randint(0, 70), font=font)
        lines.append(pen.textbbox((x, y), text, font=font))
        return y + points * DPI / 72 * 1.25

    start = write(200, 150, "Report and Conditions", 28) + 60
    start = write(200, start, f"Part {seed}: tables and small print", 14) + 60
    columns = 2
    column_width = (WIDTH - 400 - 100 * (columns - 1)) / columns
    for column in range(columns):
        x, y = 200 + column * (column_width + 100), start
        for points, bottom in ((11, 1400), (8, 2400), (6, 3350)):
            font = ImageFont.load_default(points * DPI / 72)
            while y < bottom:
                text = ""
                while font.getlength(longer := f"{text} {chance.choice(WORDS)}".strip()) < column_width:
                    text = longer
                if chance.random() < 0.15:
                    text = " ".join(text.split()[:3])
                y = write(x, y, text, points)
    seen = cv2.GaussianBlur(np.array(page), (0, 0), 1.0) + noise.normal(0, 8, (HEIGHT, WIDTH))
    return np.clip(seen, 0, 255).astype(np.uint8), lines


def write_a4(folder: Path, count: int) -> Path:
    """A data folder of drawn pages."""
    for name in ("val_images", "val_gts"):
        (folder / name).mkdir(parents=True)
    names = [f"page{number}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        pixels, lines = draw_a4(number)
        cv2.imwrite(str(folder / "val_images" / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, 85])
        text = "".join(f"{a:.0f},{b:.0f},{c:.0f},{b:.0f},{c:.0f},{d:.0f},{a:.0f},{d:.0f},x\n" for a, b, c, d in lines)
        (folder / "val_gts" / f"page{number}.txt").write_text(text, encoding="utf-8")
    (folder / "val_list.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return folder


def run_row(row: Row, data: Path, model: str, images: int) -> dict[str, Any]:
    """What one row of the table says, measured in this process."""
    configure_process()
    detector = TextDetector(model, limit_side=row.limit_side, tiled=row.tiled)
    samples = list(read_split(data, "val"))[:images]
    detector.detect(samples[0].image)
    scores, times = [], []
    for sample in samples:
        started = time.process_time()
        found = detector.detect(sample.image)
        times.append((time.process_time() - started) * 1000)
        scores.append(score_image(sample, np.array([box.points for box in found.boxes], float).reshape(-1, 4, 2)))
    peak_mb = own_peak_mb()
    counts = summarise(row.label, scores).counts
    return {
        **{name: getattr(counts, name) for name in ("precision", "recall", "hmean")},
        **{"images": len(samples), "ms": float(np.median(times)), "peak_mb": peak_mb},
    }


def measure(number: int, data: Path, model: str, images: int) -> dict[str, Any]:
    """`run_row` in a process of its own."""
    command = [sys.executable, __file__, "--data", str(data), "--model", model, "--images", str(images)]
    done = subprocess.run(
        [*command, "--row", str(number)],
        capture_output=True,
        text=True,
        env={**os.environ, "MALLOC_ARENA_MAX": "2"},
        check=False,
    )
    if done.returncode:
        sys.exit(f"{data}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def table(data: Path, model: str, images: int) -> None:
    """Prints the rows of one data folder."""
    print(f"\n{data.name}\n{'':24} images  precision  recall   hmean  CPU ms  peak MB  x 640")
    least = 0.0
    for number, row in enumerate(ROWS):
        found = measure(number, data, model, images)
        least = least or found["peak_mb"]
        print(
            f"{row.label:24} {found['images']:6}  {found['precision']:9.3f}  {found['recall']:6.3f}  "
            f"{found['hmean']:6.4f}  {found['ms']:6.0f}  {found['peak_mb']:7.0f}  {found['peak_mb'] / least:5.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", help="folder with val_images and val_gts")
    parser.add_argument("--model", default="dbnet-resnet18")
    parser.add_argument("--images", type=int, default=200, help="at most so many of each folder")
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row is not None:
        row = run_row(ROWS[arguments.row], arguments.data[0], arguments.model, arguments.images)
        print(json.dumps(row))
        return
    with tempfile.TemporaryDirectory() as temporary:
        for data in arguments.data or [write_a4(Path(temporary) / "a4-300dpi", min(4, arguments.images))]:
            table(data, arguments.model, arguments.images)


if __name__ == "__main__":
    main()
