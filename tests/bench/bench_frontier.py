"""Time against quality: all our models and the PP-OCR networks, same pictures, same limit, one thread, ONNX Runtime.

    python tests/bench/bench_frontier.py [FOLDER@SIDE[,SIDE...] ...] [--images N] [--int8 DATA] [--plot PNG] [--csv CSV]
    python tests/bench/bench_frontier.py td500@640 sroie@640,960,1280 funsd@640,960,1280 --plot docs/frontier.png

FOLDER is an ICDAR-style folder (val_images, val_gts); without one a few pages are drawn. Each model runs in a process
of its own, one after the other; ms is the median from resized pixels to boxes (normalise, network, boxes), so that
decoding, which is the same for all, does not count. The PP-OCR files come out of PyPI wheels (pinned; kept in
--peers). They get PaddleOCR's input (BGR, resized to multiples of 32) and thresholds (0.3 / 0.6 / 1.5, in our
measures 0.4 / 0.7 / 1.2), and our faster code for the boxes. With --int8 they are also measured as `ocr-detector models
--fetch NAME --int8 --data DATA` makes them, in our own pipeline.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from detector.convert.quantize import spread
from detector.evaluation.annotations import Sample, read_split
from detector.evaluation.evaluate import score_image, summarise
from detector.models import WEIGHTS_FOLDER, list_models
from detector.public.models import fetch_model, public_model, public_names
from detector.public.pypi_files import WheelError, fetch
from tests.bench.chart import INT8, Point, draw_frontier
from tests.bench.ppocr import PEERS

ROOT = Path(__file__).parents[2]
CACHE = Path.home() / ".cache" / "ocrfleet" / "peers"


@dataclass(frozen=True, slots=True)
class Row:
    """One model on one data set at one size: a line of the table."""

    data: str
    limit_side: int
    model: str
    ours: bool
    images: int
    median_ms: float
    p95_ms: float
    peak_mb: float
    precision: float
    recall: float
    hmean: float


def parse_panel(text: str) -> tuple[Path, list[int]]:
    """ "FOLDER@640,960" -> the folder and the sizes.

    Raises:
        argparse.ArgumentTypeError: not of this form.
    """
    folder, _, sides = text.rpartition("@")
    if not folder or not all(side.isdigit() for side in sides.split(",")):
        raise argparse.ArgumentTypeError(f"{text}: expected FOLDER@SIDE[,SIDE...], such as td500@640")
    return Path(folder), [int(side) for side in sides.split(",")]


def measure(kind: str, model: str, limit_side: int, samples: list[Sample]) -> dict[str, float] | None:
    """Times, peak memory and counts of one model, or None if it failed."""
    script = str(ROOT / "tests/bench/frontier_runner.py")
    done = subprocess.run(
        [sys.executable, script, kind, model, str(limit_side), *(str(sample.image) for sample in samples)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or len(lines) != len(samples) + 1:
        return None
    *pictures, memory = lines
    boxes = [np.array(line["boxes"], np.float64).reshape(-1, 4, 2) for line in pictures]
    counts = summarise("", [score_image(*pair) for pair in zip(samples, boxes, strict=True)]).counts
    median, p95 = np.percentile([line["ms"] for line in pictures], [50, 95])
    return {
        "median_ms": round(float(median), 2),
        "p95_ms": round(float(p95), 2),
        "peak_mb": round(memory["peak_mb"], 1),
        "precision": round(counts.precision, 4),
        "recall": round(counts.recall, 4),
        "hmean": round(counts.hmean, 4),
    }


def quantized(data: Path, folder: Path) -> dict[str, str]:
    """All public detectors in int8, calibrated on DATA's training images; kept in a folder. Peer's name -> file."""
    from detector.convert.public_int8 import make_int8

    files = {}
    for name in public_names("detector"):
        int8 = folder / f"{name}.int8.onnx"
        if not int8.is_file():
            make_int8(public_model(name), fetch_model(name, folder=folder), data)
        files[public_model(name).title.partition(",")[0] + INT8] = str(int8)
    return files


def run(
    panels: list[tuple[Path, list[int]]], split: str, images: int, peers: dict[str, str], int8: dict[str, str]
) -> Iterator[Row]:
    """A row for each data set, size and model, as it is measured."""
    models = [(name, True, "ours", name) for name in list_models(WEIGHTS_FOLDER)]
    models += [(name, False, "peer", file) for name, file in peers.items()]
    models += [(name, False, "ours", file) for name, file in int8.items()]
    for folder, sides in panels:
        samples = read_split(folder, split)
        chosen = spread(samples, images) if images else samples
        for side in sides:
            for name, is_ours, kind, model in models:
                found = measure(kind, model, side, chosen)
                if found is None:
                    print(f"{name} failed on {folder.name} at {side} and is left out", file=sys.stderr)
                else:
                    yield Row(folder.name, side, name, is_ours, len(chosen), **found)


def draw_pages(folder: Path, count: int) -> Path:
    """Pages with ground truth for want of data; a train split."""
    from detector.training.synth.render import render

    render(folder, range(count), [])
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("panels", nargs="*", type=parse_panel, metavar="FOLDER@SIDE[,SIDE...]")
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=0, help="so many of each folder, evenly spread; 0: all")
    parser.add_argument("--peers", type=Path, default=CACHE, help=f"where the PP-OCR files are kept [{CACHE}]")
    parser.add_argument("--int8", type=Path, metavar="DATA", help="the public ones in int8 too, calibrated on DATA")
    parser.add_argument("--plot", type=Path, help="write the picture here")
    parser.add_argument("--csv", type=Path, help="write the table here")
    arguments = parser.parse_args()
    try:
        files = dict(zip(PEERS, map(str, fetch(list(PEERS.values()), arguments.peers)), strict=True))
        int8 = quantized(arguments.int8, arguments.peers) if arguments.int8 else {}
    except WheelError as error:
        print(f"without PP-OCR: {error}", file=sys.stderr)
        files, int8 = {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        panels, split = arguments.panels, arguments.split
        if not panels:
            panels, split = [(draw_pages(Path(temporary) / "drawn", 8), [640])], "train"
        load = f"1 thread, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the start"
        print(f"{load}\n\n| data | limit | model | median ms | p95 ms | peak RSS MB | precision | recall | hmean |")
        print("|---|---|---|---|---|---|---|---|---|")
        rows = []
        for row in run(panels, split, arguments.images, files, int8):
            rows.append(row)
            print(
                f"| {row.data} ({row.images}) | {row.limit_side} | {row.model} | {row.median_ms:.0f} | {row.p95_ms:.0f}"
                f" | {row.peak_mb:.0f} | {row.precision:.3f} | {row.recall:.3f} | {row.hmean:.3f} |",
                flush=True,
            )
    if not rows:
        sys.exit("nothing could be measured")
    if arguments.csv:
        arguments.csv.parent.mkdir(parents=True, exist_ok=True)
        with arguments.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(asdict(rows[0])))
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
    if arguments.plot:
        points = [
            Point(f"{r.data}, {r.images} pictures", r.model, r.ours, r.limit_side, r.median_ms, r.hmean) for r in rows
        ]
        arguments.plot.parent.mkdir(parents=True, exist_ok=True)
        draw_frontier(points, arguments.plot, "One thread, ONNX Runtime; resized pixels to boxes.")


if __name__ == "__main__":
    main()
