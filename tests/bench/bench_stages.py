"""Where the time of one picture goes, stage by stage.

    python tests/bench/bench_stages.py IMAGE... [--limit-side 640] [--model NAME] [--repeat 5]
    python tests/bench/bench_stages.py                (draws pictures of its own)

Medians over all pictures and repetitions, in milliseconds. "contours" are part of "boxes". CPU is what a stage costs a
core; on a busy machine compare that column.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from detector.images.page import open_page, page_header
from detector.memory import configure_process
from detector.postprocess import find_boxes
from detector.predictor import TextDetector, normalise
from tests.bench.pictures import draw

Times = dict[str, list[tuple[float, float]]]
"""Of every stage: (wall, CPU) milliseconds, one pair a run."""


@contextmanager
def timed(times: Times, stage: str) -> Iterator[None]:
    started, started_cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - started, time.process_time() - started_cpu
    times[stage].append((wall * 1000, cpu * 1000))


def run_once(detector: TextDetector, path: Path, limit_side: int, times: Times) -> None:
    """One picture, every stage by itself."""
    with timed(times, "header"):
        page_header(path)
    with timed(times, "open (header, decode, shrink, turn)"):
        page = open_page(path, limit_side=limit_side)
    with timed(times, "normalise and pad"):
        batch = normalise(page.pixels, detector.card.mean, detector.card.std)
    height, width = page.pixels.shape[:2]
    with timed(times, "network"):
        probability = detector._runtime.probability(batch)[:height, :width]
    with timed(times, "contours"):
        binary = (probability >= detector.thresholds.binarize).view(np.uint8)
        cv2.findContours(binary, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    with timed(times, "boxes (contours, score, unclip)"):
        find_boxes(
            probability, (page.width / width, page.height / height), (page.width, page.height), detector.thresholds
        )
    with timed(times, "all: detect()"):
        detector.detect(path, limit_side=limit_side)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--limit-side", type=int, default=640)
    parser.add_argument("--model", default="dbnet-resnet18")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        images = arguments.images
        if not images:
            images = [Path(temporary) / f"{number}.jpg" for number in range(4)]
            for number, path in enumerate(images):
                cv2.imwrite(str(path), draw(*[(1280, 960), (1600, 1200), (4000, 3000), (640, 480)][number], number))
        configure_process()
        detector = TextDetector(arguments.model, runtime=arguments.runtime, limit_side=arguments.limit_side)
        run_once(detector, images[0], arguments.limit_side, defaultdict(list))
        times: Times = defaultdict(list)
        for _ in range(arguments.repeat):
            for path in images:
                run_once(detector, path, arguments.limit_side, times)
    print(
        f"{len(images)} pictures, limit {arguments.limit_side}, {detector.info.runtime}, 1 thread, "
        f"machine load {os.getloadavg()[0]:.1f}\n"
    )
    total = float(np.median([cpu for _, cpu in times["all: detect()"]]))
    print(f"{'stage':36} {'median ms':>9} {'p95 ms':>8} {'CPU ms':>8} {'share':>6}")
    for stage, values in times.items():
        middle, slow = np.percentile([wall for wall, _ in values], [50, 95])
        cpu = float(np.median([cpu for _, cpu in values]))
        print(f"{stage:36} {middle:9.2f} {slow:8.2f} {cpu:8.2f} {cpu / total:6.0%}")


if __name__ == "__main__":
    main()
