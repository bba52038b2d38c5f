"""A job of many small images: do Redis and the producer stay flat, and what does the pipeline cost over a bare loop?

    python tests/bench/bench_pipeline.py [--images 10000]

Prints the server's used memory and the producer's RSS at points of the job, and the rate of ``ocr-producer run``
beside that of ``ocr-detector detect`` over the same files, one after the other, in one run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import redis

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.pictures import write_images

DISTINCT = 50
MARKS = (0.05, 0.25, 0.5, 0.75, 0.95)


def make_folder(root: Path, count: int) -> Path:
    """``count`` file names over 50 distinct small images (hard links)."""
    originals = write_images(root / "originals", min(DISTINCT, count), width=320, height=240)
    folder = root / "in"
    folder.mkdir()
    for number in range(count):
        os.link(originals[number % len(originals)], folder / f"{number:07d}.jpg")
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


def lines_in(path: Path) -> int:
    try:
        with path.open("rb") as handle:
            return sum(1 for _ in handle)
    except OSError:
        return 0


def run_pipeline(folder: Path, out: Path, count: int) -> tuple[float, list[tuple[float, float, float, float]]]:
    """Seconds between first and last record, and (done, Redis used MB, server RSS MB, producer RSS MB) at the marks."""
    environment = {**os.environ, "OCRFLEET_PROFILE": "low", "OCRFLEET_NICE": "0"}
    arguments = [sys.executable, "-m", "producer.cli", "run", str(folder), "-o", str(out), "--quiet", "--no-report"]
    process = subprocess.Popen([*arguments, "--profile", "low"], env=environment)
    producer = psutil.Process(process.pid)
    marks, samples = list(MARKS), list[tuple[float, float, float, float]]()
    first, last, already = 0.0, 0.0, 0
    while process.poll() is None:
        done = lines_in(out / "results.jsonl")
        if done and not first:
            first, already = time.perf_counter(), done
        if done < count:
            last = time.perf_counter()
        if marks and done >= marks[0] * count and (found := server_of(producer)):
            server, client = found
            used = client.info("memory")["used_memory"] / 2**20
            samples.append((done, used, server.memory_info().rss / 2**20, producer.memory_info().rss / 2**20))
            marks.pop(0)
        time.sleep(0.1)
    assert process.returncode == 0 and lines_in(out / "results.jsonl") == count
    return (last - first) / (count - already) * count, samples


def run_bare(folder: Path, count: int, log: Path) -> float:
    """Images a second of the bare loop over the first ``count`` files, model loading excluded."""
    files = sorted(map(str, folder.iterdir()))[:count]
    arguments = [sys.executable, "-m", "detector.cli", "detect", *files, "--limit-side", "640"]
    with log.open("wb") as output, subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout
        first, count = 0.0, 0
        for line in process.stdout:
            first = first or time.perf_counter()
            output.write(line)
            count += 1
        seconds = time.perf_counter() - first
    return (count - 1) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--bare", type=int, default=2_000, help="images of the bare loop")
    options = parser.parse_args()
    count = options.images
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        folder = make_folder(root, count)
        seconds, samples = run_pipeline(folder, root / "out", count)
        bare = run_bare(folder, min(count, options.bare), root / "bare.jsonl")
        print(f"\n{count} images of 320x240, 1 worker, profile low\n")
        print("   done  Redis used MB  server RSS MB  producer RSS MB")
        for done, used, server, producer in samples:
            print(f"{done:7d}  {used:13.1f}  {server:13.1f}  {producer:15.1f}")
        rate = count / seconds
        print(f"\nbare loop {bare:7.1f} images/s\npipeline  {rate:7.1f} images/s = {100 * rate / bare:.1f} % of it")
        peaks = [json.loads(line)["peak_rss_mb"] for line in (root / "out" / "results.jsonl").open()]
        print(
            f"worker child peak RSS: first hundred {max(peaks[:100]):.0f} MB, last hundred {max(peaks[-100:]):.0f} MB"
        )


if __name__ == "__main__":
    main()
