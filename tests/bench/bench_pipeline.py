"""What does the pipeline cost over a bare loop, what does recycling cost, and do Redis and the producer stay flat?

    python tests/bench/bench_pipeline.py [--images FOLDER] [--count 10000] [--rounds 1]
    python tests/bench/bench_pipeline.py --images photos/ --count 200 --rounds 3    (at 640, as in the README)

Three programs over the same files, one after the other, ``--rounds`` times: ``ocr-detector detect`` (the bare loop),
``ocr-producer run`` with one worker (low profile, limit 640), and the same with a fresh child every 50 images. Start-up
is left out: the clock runs from the first record to the last. Also printed: the server's used memory and the
producer's RSS at points of the job. Without --images: small drawn pages, where overhead shows most.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import redis

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.confined import LineCount
from tests.pictures import write_images

DISTINCT = 50
RECYCLE = 50
MARKS = (0.05, 0.25, 0.5, 0.75, 0.95)


def make_folder(root: Path, count: int, photos: Path | None) -> Path:
    """``count`` file names over the folder's images, or over 50 small ones drawn here (links)."""
    if photos:
        originals = sorted(path.resolve() for path in photos.iterdir() if path.is_file())
    else:
        originals = write_images(root / "originals", min(DISTINCT, count), width=320, height=240)
    folder = root / "in"
    folder.mkdir(parents=True)
    for number in range(count):
        original = originals[number % len(originals)]
        (folder / f"{number:07d}{original.suffix}").symlink_to(original)
    return folder


def server_of(producer: psutil.Process) -> tuple[psutil.Process, redis.Redis] | None:
    """The private server among a producer's children."""
    for child in producer.children():
        try:
            # The server's title hides its arguments; its socket does not hide.
            sockets = [entry.laddr for entry in child.net_connections("unix") if "ocrfleet-" in str(entry.laddr)]
        except psutil.Error:  # a worker's child that was just recycled
            continue
        if sockets:
            return child, redis.Redis(unix_socket_path=str(sockets[0]))
    return None


ENVIRONMENT = {**os.environ, "OCRFLEET_PROFILE": "low", "OCRFLEET_NICE": "0", "OCRFLEET_LIMIT_SIDE": "640"}


@dataclass
class Measured:
    """One run of the pipeline.

    Attributes:
        rate: images a second between the first and the last record.
        samples: (done, Redis used MB, server RSS MB, producer RSS MB) at the marks.
        peaks: peak RSS of the child over each image, MB.
    """

    rate: float
    samples: list[tuple[float, float, float, float]]
    peaks: list[float]


def run_pipeline(folder: Path, out: Path, count: int, recycle: int | None = None) -> Measured:
    """``ocr-producer run`` with one worker; ``recycle``: images a child, instead of the profile's."""
    environment = ENVIRONMENT | ({"OCRFLEET_MAX_TASKS_PER_CHILD": str(recycle)} if recycle else {})
    arguments = [
        sys.executable,
        "-m",
        "producer.cli",
        "run",
        str(folder),
        "-o",
        str(out),
        "--quiet",
        "--no-report",
        "--follow-links",
    ]
    process = subprocess.Popen([*arguments, "--profile", "low"], env=environment)
    producer = psutil.Process(process.pid)
    marks, samples = list(MARKS), list[tuple[float, float, float, float]]()
    results = LineCount(out / "results.jsonl")
    first, last, already, done = 0.0, 0.0, 0, 0
    while process.poll() is None:
        if (now_done := results()) > done:
            done, last = now_done, time.perf_counter()
            if not first:
                first, already = last, done
        if marks and done >= marks[0] * count and (found := server_of(producer)):
            server, client = found
            used = client.info("memory")["used_memory"] / 2**20
            samples.append((done, used, server.memory_info().rss / 2**20, producer.memory_info().rss / 2**20))
            marks.pop(0)
        time.sleep(0.02)
    assert process.returncode == 0 and results() == count, f"exit code {process.returncode}, {results()} records"
    peaks = [json.loads(line)["peak_rss_mb"] for line in (out / "results.jsonl").open()]
    return Measured((count - already) / (last - first), samples, peaks)


def run_bare(folder: Path, count: int) -> float:
    """Images a second of the bare loop over the first ``count`` files, from the first result to the last."""
    files = sorted(map(str, folder.iterdir()))[:count]
    arguments = [sys.executable, "-m", "detector.cli", "detect", *files, "--limit-side", "640"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout
        first, last, done = 0.0, 0.0, 0
        for _ in process.stdout:
            last, done = time.perf_counter(), done + 1
            first = first or last
    return (done - 1) / (last - first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of real photos")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--bare", type=int, default=2_000, help="images of the bare loop, and with recycling, at most")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    count, fewer = options.count, min(options.count, options.bare)
    bare, whole, recycled = list[float](), list[Measured](), list[Measured]()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        folder = make_folder(root / "all", count, options.images)
        part = folder if fewer == count else make_folder(root / "part", fewer, options.images)
        for number in range(options.rounds):
            bare.append(run_bare(folder, fewer))
            whole.append(run_pipeline(folder, root / f"out{number}", count))
            recycled.append(run_pipeline(part, root / f"recycled{number}", fewer, RECYCLE))
    what = options.images or "drawn pages of 320x240"
    print(f"\n{count} images of {what}, 1 worker, profile low, machine load {os.getloadavg()[0]:.1f}\n")
    print("   done  Redis used MB  server RSS MB  producer RSS MB")
    for done, used, server, producer in whole[-1].samples:
        print(f"{done:7.0f}  {used:13.1f}  {server:13.1f}  {producer:15.1f}")
    peaks = whole[-1].peaks
    print(f"child's peak RSS: first hundred {max(peaks[:100]):.0f} MB, last hundred {max(peaks[-100:]):.0f} MB")
    loop = median(bare)
    print(f"\nmedian of {options.rounds}     images/s  of the bare loop  ms an image more")
    usual, often = median(run.rate for run in whole), median(run.rate for run in recycled)
    for name, rate in (("bare loop", loop), ("pipeline", usual), (f"fresh child / {RECYCLE}", often)):
        print(f"{name:16}  {rate:8.2f}  {rate / loop:16.1%}  {1000 / rate - 1000 / loop:16.2f}")
    print(f"recycling every {RECYCLE} costs {1 - often / usual:.1%}")


if __name__ == "__main__":
    main()
