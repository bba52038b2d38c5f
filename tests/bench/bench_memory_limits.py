"""The naive loop and ours on the same pictures inside real memory cgroups: who finishes, who is killed? Needs root.

    python tests/bench/bench_memory_limits.py [--images 20] [--limits 2048,1024,512,256] [--data FOLDER]

Both go through the pictures one after the other. A program that the kernel kills is started again behind the picture
that killed it, which counts as lost. A page refused with a reason (TooLarge) is counted apart: nothing was
lost. Ours runs with the profile that it chooses itself ("auto"). Pages of shared libraries that other programs have
loaded already count in the peak RSS, but not in the cgroup: it can lie above the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.cgroup import MemoryCgroup, NoCgroup
from tests.bench.pictures import write_mixed_apart

ROOT = Path(__file__).parents[2]
Parse = Callable[[str], bool]


@dataclass
class Outcome:
    """What became of the pictures."""

    ok: int = 0
    refused: int = 0
    lost: list[str] = field(default_factory=list)
    oom_kills: int = 0
    peak_mb: float = 0.0
    seconds: float = 0.0


def naive_ok(line: str) -> bool:
    return int(line.split("\t")[1]) >= 0


def our_ok(line: str) -> bool:
    return json.loads(line)["status"] == "ok"


def drive(command: list[str], is_ok: Parse, images: list[Path], limit_mb: int) -> Outcome:
    """Runs the program over all images, again and again behind each one that kills it."""
    outcome, rest = Outcome(), list(images)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "2"}
    started = time.perf_counter()
    with MemoryCgroup(limit_mb) as cgroup:
        while rest:
            ended = cgroup.run([*command, *map(str, rest)], environment)
            lines = [line for line in ended.output.splitlines() if line.strip()]
            outcome.ok += sum(map(is_ok, lines))
            outcome.refused += sum(not is_ok(line) for line in lines)
            outcome.oom_kills += ended.oom_kills
            outcome.peak_mb = max(outcome.peak_mb, ended.peak_mb)
            if ended.returncode >= 0 and len(lines) == len(rest):
                break
            outcome.lost.append(rest[len(lines)].name)
            if not lines and len(outcome.lost) >= 3 and outcome.ok == 0:
                outcome.lost += [path.name for path in rest[1:]]  # it cannot even start: no need to try them all
                break
            rest = rest[len(lines) + 1 :]
    outcome.seconds = time.perf_counter() - started
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20, help="ordinary photos besides the eight large or odd ones")
    parser.add_argument("--limits", default="2048,1024,512,256", help="MiB, separated by commas")
    parser.add_argument("--data", type=Path, help="a folder of your own pictures instead")
    arguments = parser.parse_args()
    programs: list[tuple[str, list[str], Parse]] = [
        ("naive", [sys.executable, str(ROOT / "tests/bench/naive_loop.py")], naive_ok),
        ("ours", [sys.executable, "-m", "detector.cli", "detect"], our_ok),
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.data or Path(temporary) / "pictures"
        images = sorted(folder.iterdir()) if arguments.data else write_mixed_apart(folder, arguments.images)
        print(f"{len(images)} pictures, machine load {os.getloadavg()[0]:.1f}\n")
        print("limit MB  program     ok  refused  lost  OOM kills  peak RSS MB  pictures/s (start included)")
        for limit_mb in map(int, arguments.limits.split(",")):
            for name, command, is_ok in programs:
                try:
                    got = drive(command, is_ok, images, limit_mb)
                except NoCgroup as error:
                    sys.exit(str(error))
                rate = (got.ok + got.refused) / got.seconds
                print(
                    f"{limit_mb:8}  {name:8}  {got.ok:4}  {got.refused:7}  {len(got.lost):4}  {got.oom_kills:9}"
                    f"  {got.peak_mb:11.0f}  {rate:10.2f}   {', '.join(got.lost[:4])}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
