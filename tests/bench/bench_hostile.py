"""Hostile files, each in a job of its own: what they took before and take now, and what their record says.

    python tests/bench/bench_hostile.py [--memory-limit-mb 192] [FILE ...]

Every file is made here (tests/hostile.py) and goes through `ocr-producer run` beside one sound photo. Peaks are VmHWM
of each process of the job, read every 20 ms: of the largest one; and the sum of all their own memory. A row is good
if the photo is ok, the hostile file has a record of an error type, no process took more than its limit and 150 MB, and
nothing took longer than a page may. Exit code 1 if a row is not. The column `before`: as each was found.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from producer.archive_process.program import MEMORY_BYTES
from tests import hostile
from tests.pictures import write_images
from worker.settings import read_settings

ALLOWED_OVER_MB = 150
LISTING_MB = MEMORY_BYTES >> 20
ERRORS = {"CorruptImage", "UnsupportedFormat", "TooLarge", "OutOfMemory", "TimedOut"}


@dataclass(frozen=True)
class Case:
    """One hostile file.

    Attributes:
        make: writes it.
        before: what it did before that was mended.
        listed: opened by the listing process, whose limit is another one, rather than by a worker.
        empty: holds no page, so that passing over it and counting that is right.
    """

    make: Callable[[Path], object]
    before: str
    listed: bool = False
    empty: bool = False


def _bytes(make: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(make())


CASES = {
    "animated.webp": Case(_bytes(hostile.animated_webp), "1,500 MB, ok"),
    "nested.pdf": Case(_bytes(hostile.nested_pdf_forms), "1,000 MB, three tries"),
    "unpacks.pdf": Case(_bytes(hostile.unpacking_pdf), "788 MB to count its pages"),
    "precincts.jp2": Case(_bytes(hostile.jpeg2000), "6,800 MB"),
    "panorama.png": Case(_bytes(hostile.wide_png), "833 MB, ok"),
    "three-bytes.tar.gz": Case(lambda path: path.write_bytes(b"\x1f\x8b\x08"), "TypeError, the scan is over", True),
    "nameless.zip": Case(_bytes(hostile.nameless_zip), "IndexError, the scan is over", True, empty=True),
    "long-name.tar.xz": Case(_bytes(hostile.long_name_tar), "3,000 MB in the producer", True),
    "dictionary.tar.xz": Case(_bytes(hostile.dictionary_tar_xz), "3,000 MB asked for in the producer", True),
    "slow.tar.xz": Case(_bytes(hostile.slow_tar_xz), "more than 300 s", True),
    "million.zip": Case(hostile.many_entries_zip, "496 MB in the producer", True),
}


@dataclass(frozen=True)
class Row:
    """What one job took, MB and seconds, and what the hostile file's record says."""

    size: int
    largest_mb: float
    tree_mb: float
    seconds: float
    record: str
    good: bool


def peaks(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """(largest process, all processes) of a job until it ends, MB."""
    largest = together = 0.0
    root = psutil.Process(process.pid)
    while process.poll() is None:
        now = 0.0
        with suppress(psutil.Error):
            for one in [root, *root.children(recursive=True)]:
                with suppress(OSError, KeyError):  # it has just ended
                    lines = Path(f"/proc/{one.pid}/status").read_text(encoding="ascii").splitlines()
                    status = dict(line.split(":", 1) for line in lines)
                    largest = max(largest, int(status["VmHWM"].split()[0]) / 1024)
                    now += int(status["RssAnon"].split()[0]) / 1024
        together = max(together, now)
        time.sleep(0.02)
    return largest, together


def measure(name: str, case: Case, limit_mb: int) -> Row:
    """Run one job."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as scratch:
        folder, out = Path(scratch) / "in", Path(scratch) / "out"
        write_images(folder, 1)
        case.make(folder / name)
        clean = {key: value for key, value in os.environ.items() if not key.startswith("OCRFLEET_")}
        environment = clean | {
            "OCRFLEET_MEMORY_LIMIT_MB": str(limit_mb),
            "OCRFLEET_SPOOL_DIR": f"{scratch}/spool",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        words = [
            sys.executable,
            "-m",
            "producer.cli",
            "run",
            folder,
            "-o",
            out,
            "--quiet",
            "--no-report",
            "--workers",
            "1",
        ]
        began = time.monotonic()
        job = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        largest, together = peaks(job)
        seconds = time.monotonic() - began
        results = out / "results.jsonl"
        records = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
        sound = [record for record in records if record["image"] != name]
        errors = [record["error"] for record in records if record["image"] == name and record["error"]]
        tries = max((record["attempts"] for record in records), default=0)
        allowed = (LISTING_MB if case.listed else limit_mb) + ALLOWED_OVER_MB
        good = (
            [record["status"] for record in sound] == ["ok"]
            and (bool(errors) or case.empty)
            and {error["type"] for error in errors} <= ERRORS
            and largest < allowed
            and seconds < read_settings({}).hard_timeout_s
        )
        said = f"{errors[0]['type']}, {max(1, tries)} tries" if errors else "none: no page" if case.empty else "MISSING"
        return Row((folder / name).stat().st_size, largest, together, seconds, said.replace("1 tries", "1 try"), good)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="FILE", help=f"some of {', '.join(CASES)}")
    parser.add_argument("--memory-limit-mb", type=int, default=192)
    chosen = parser.parse_args()
    limit = chosen.memory_limit_mb
    print(f"| file | bytes | before | largest process MB (allowed: {limit} or {LISTING_MB}, and {ALLOWED_OVER_MB}) | "
          "all processes MB | s | record |\n|---|---|---|---|---|---|---|")  # fmt: skip
    bad = []
    for name in chosen.names or CASES:
        row = measure(name, CASES[name], limit)
        print(f"| {name} | {row.size:,} | {CASES[name].before} | {row.largest_mb:.0f} | {row.tree_mb:.0f} | "
              f"{row.seconds:.0f} | {row.record} |", flush=True)  # fmt: skip
        bad += [] if row.good else [name]
    if bad:
        print(f"not good: {', '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
