"""Detect and read, ours beside RapidOCR with the same recogniser: character errors, time, memory.

    python tests/bench/bench_reading.py --data sroie --data funsd [--split val] [--images N] [--venv FOLDER]

--data: folders with val_images and val_gts whose ground truth has the text. RapidOCR is installed with pip into a
virtual environment of its own. Errors are counted without spaces and case: by line of the ground truth, and of the
whole page with both texts in reading order. Times count on a quiet machine only; the load is printed.
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
from detector.models import DEFAULT_MODEL
from detector.public.models import DEFAULT_READER
from tests.bench.character_errors import Rate, by_line, in_order

ROOT = Path(__file__).parents[2]
Line = dict[str, Any]


def install(folder: Path) -> Path:
    """The python of an environment with RapidOCR."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "rapidocr==3.10.0", "onnxruntime"], check=True)
    return python


def measure(python: Path, name: str, images: list[Path]) -> tuple[list[Line], float]:
    """(a line per picture, peak RSS in MiB)."""
    done = subprocess.run(
        [str(python), str(ROOT / "tests/bench/reading_runner.py"), name, *map(str, images)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return lines[:-1], lines[-1]["peak_mb"]


def rates(samples: list[Sample], lines: list[Line]) -> tuple[Rate, Rate]:
    """Errors by line, and in reading order, over all pages."""
    single, whole = Rate(), Rate()
    for sample, line in zip(samples, lines, strict=True):
        truth = [(region.points, region.label) for region in sample.regions() if not region.ignore]
        single += by_line(truth, line["boxes"], line["texts"])
        whole += in_order(truth, line["boxes"], line["texts"])
    return single, whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=0, help="so many, evenly spread [all]")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--read", default=DEFAULT_READER)
    parser.add_argument("--limit-side", type=int, default=1280)
    parser.add_argument("--venv", type=Path, help="where to install RapidOCR, and to find it the next time")
    parser.add_argument("--save", type=Path, help="keep what was read in this folder")
    arguments = parser.parse_args()
    if not arguments.data:  # `make bench` runs all scripts without arguments
        print("nothing measured: --data names folders of pages whose ground truth has the text")
        return
    with tempfile.TemporaryDirectory() as temporary:
        peer = install(arguments.venv or Path(temporary) / "venv")
        programs = [
            (f"ours:{arguments.model}:{arguments.read}:{arguments.limit_side}", "ocrfleet", Path(sys.executable)),
            ("rapidocr", "RapidOCR 3.10", peer),
        ]
        for data in arguments.data:
            samples = list(read_split(data, arguments.split))
            samples = spread(samples, arguments.images) if arguments.images else samples
            load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the start"
            print(f"\n{data.name}, {len(samples)} pages, 1 thread, {load}\n")
            print("| | CER by line | CER in order | CPU s a page | s a page | peak MiB |\n|---|---|---|---|---|---|")
            for name, title, python in programs:
                lines, peak_mb = measure(python, name, [sample.image for sample in samples])
                if arguments.save:
                    arguments.save.mkdir(parents=True, exist_ok=True)
                    kept = arguments.save / f"{data.name}-{arguments.split}-{title.split()[0]}.json"
                    kept.write_text(json.dumps(lines))
                single, whole = rates(samples, lines)
                cpu, wall = (float(np.mean([line[key] for line in lines])) for key in ("cpu", "wall"))
                print(
                    f"| {title} | {single.percent:.2f} % | {whole.percent:.2f} % | {cpu:.2f} | {wall:.2f} | "
                    f"{peak_mb:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
