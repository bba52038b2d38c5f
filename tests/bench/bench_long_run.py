"""Does a process grow? Its memory over thousands of pictures of mixed sizes, nothing recycled.

    python tests/bench/bench_long_run.py [--count 10000] [--images FOLDER] [--mode worker|detect] [--plot FILE.png]

"worker": the child of a real Celery worker, recycling switched off. "detect": ``ocr-detector detect``, one process, no
queue. Pictures are drawn, 40 to 1000 pixels wide, JPEG, PNG and WebP, one in 500 with 12 megapixels; those of --images
are mixed in. Memory is looked at every 20 ms; a line of the CSV is the median and the peak over a hundred pictures.
Good is: the median after the last picture within 5 % of that after 500 (exit code 1 otherwise). Ctrl-C ends it early,
with what there is. At one thread of a quiet core 10,000 take about 6 minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import astuple, fields
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from detector.images.suffixes import IMAGE_SUFFIXES
from producer.local.server import EmbeddedServer
from tests.bench.confined import LineCount, environment_of, process_of
from tests.bench.memory_chart import Sample, draw_long_run
from tests.bench.pictures import draw
from worker.broker import connect
from worker.ledger import Ledger
from worker.settings import read_settings

DISTINCT = 400
EVERY = 100
REFERENCE = 500
LOOK_S = 0.02
JOB = "long"
Looks = Generator[tuple[int, int], None, None]


def draw_pictures(folder: Path) -> list[Path]:
    """``DISTINCT`` small pictures of as many sizes; most are far below 640, so that ten thousand take minutes."""
    folder.mkdir()
    numbers = np.random.default_rng(7)
    for number in range(DISTINCT):
        width = int(numbers.triangular(40, 160, 1000))
        height = int(np.clip(width * numbers.uniform(0.3, 2.0), 24, 1000))
        suffix = ("jpg", "jpg", "png", "webp")[number % 4]
        cv2.imwrite(str(folder / f"{number:03}.{suffix}"), draw(width, height, number))
    return sorted(folder.iterdir())


def make_folder(root: Path, count: int, real: list[Path]) -> Path:
    """``count`` names in random order for drawn pictures, real ones, and a 12 megapixel one in 500."""
    pool = draw_pictures(root / "drawn") + real
    large = root / "large.jpg"
    cv2.imwrite(str(large), draw(4000, 3000, 1))
    folder, order = root / "in", random.Random(3)
    folder.mkdir()
    for number in range(count):
        path = large if number % 500 == 250 else order.choice(pool)
        (folder / f"{number:06}{path.suffix}").symlink_to(path.resolve())
    return folder


def detect(folder: Path, scratch: Path) -> Looks:
    """(pictures done, process id), again and again, of a plain process."""
    output = scratch / "boxes.jsonl"
    arguments = ("detect", folder, "-o", output, "--limit-side", 640)
    environment = environment_of(scratch)
    with process_of("detector.cli", *arguments, environment=environment, log=scratch / "log") as process:
        done = LineCount(output)
        while process.poll() is None:
            yield done(), process.pid
            time.sleep(LOOK_S)


def worker(folder: Path, scratch: Path) -> Looks:
    """(pictures done, process id), again and again, of a Celery worker's child that is never recycled."""
    server = EmbeddedServer(scratch / "server")
    server.start()
    log = scratch / "log"
    environment = environment_of(
        scratch, OCRFLEET_REDIS_URL=server.url, OCRFLEET_PROFILE="low", OCRFLEET_MAX_TASKS_PER_CHILD="1000000"
    )
    settings = read_settings(environment)
    ledger = Ledger(connect(settings), ttl_s=3600)
    feed = ("enqueue", folder, "--job", JOB, "--quiet", "--follow-links")
    collect = ("collect", JOB, "-o", scratch / "out", "--follow", "--quiet")
    with (
        contextlib.ExitStack() as stack,
        process_of("worker.cli", "start", environment=environment, log=log) as main_process,
        process_of("producer.cli", *feed, environment=environment, log=log),
    ):
        stack.callback(server.stop)
        collector: subprocess.Popen[bytes] | None = None
        finished = False
        while not finished:
            status = ledger.status(JOB)
            if status is not None and collector is None:
                collector = stack.enter_context(process_of("producer.cli", *collect, environment=environment, log=log))
            children = psutil.Process(main_process.pid).children()
            if status is not None and children:
                finished = status.finished
                yield status.done, children[0].pid
            time.sleep(LOOK_S)


class Replaced(Exception):
    """The measured process was replaced by another one."""


def watch(looks: Looks, write: Callable[[Sample], None]) -> list[Sample]:
    """A sample for each hundred pictures. Ctrl-C ends it.

    Raises:
        Replaced: the child was replaced, so its memory says nothing about growth.
    """
    samples: list[Sample] = []
    window: list[float] = []
    first_pid, due = 0, EVERY
    with contextlib.suppress(KeyboardInterrupt):
        for done, pid in looks:
            if done == 0:
                first_pid = pid
            elif pid != first_pid:
                raise Replaced(f"the child was replaced after {done} pictures: it passed its memory limit or died")
            with contextlib.suppress(psutil.Error):
                window.append(psutil.Process(pid).memory_info().rss / 2**20)
            if done >= due and window:
                samples.append(Sample(done, round(median(window), 1), round(max(window), 1)))
                write(samples[-1])
                window, due = [], done - done % EVERY + EVERY
        if window:
            samples.append(Sample(done, round(median(window), 1), round(max(window), 1)))
            write(samples[-1])
    return samples


def at(samples: list[Sample], done: int) -> Sample:
    """The first sample at or after this many pictures; the last one of a shorter run."""
    return next((sample for sample in samples if sample.done >= done), samples[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="pictures")
    parser.add_argument("--images", type=Path, help="a folder of real pictures to mix in")
    parser.add_argument("--mode", choices=["worker", "detect"], default="worker")
    parser.add_argument("--csv", type=Path, help="where to write the samples")
    parser.add_argument("--plot", type=Path, help="where to draw them, for example docs/rss-10000.png")
    arguments = parser.parse_args()
    files = sorted(arguments.images.iterdir()) if arguments.images else []
    real = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]  # others would not count as done
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = make_folder(root, arguments.count, real)
        table = csv.writer(stack.enter_context((arguments.csv or root / "samples.csv").open("w", buffering=1)))
        table.writerow(field.name for field in fields(Sample))
        started = time.perf_counter()
        looks = {"worker": worker, "detect": detect}[arguments.mode](folder, root)
        try:
            samples = watch(looks, lambda sample: table.writerow(astuple(sample)))
        except Replaced as error:
            sys.exit(str(error))
        finally:
            looks.close()
        seconds = time.perf_counter() - started
    if not samples:
        sys.exit(f"fewer than {EVERY} pictures were done: nothing to compare")
    reference, last = at(samples, REFERENCE), samples[-1]
    growth = last.rss_mb / reference.rss_mb - 1
    highest = max(sample.peak_mb for sample in samples)
    print(f"{arguments.mode}: {last.done} pictures in {seconds:.0f} s, machine load {os.getloadavg()[0]:.1f}")
    print(f"RSS after {reference.done}: {reference.rss_mb:.0f} MB")
    print(f"RSS after {last.done}: {last.rss_mb:.0f} MB = {growth:+.1%}")
    print(f"largest ever {highest:.0f} MB")
    if arguments.plot:
        what = f"One process, {last.done:,} pictures of mixed sizes, nothing recycled"
        subtitle = f"{what}: {growth:+.1%} since {reference.done}"
        draw_long_run(samples, reference, arguments.plot, subtitle)
    sys.exit(int(abs(growth) > 0.05))


if __name__ == "__main__":
    main()
