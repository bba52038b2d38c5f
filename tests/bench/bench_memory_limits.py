"""The naive loop and ours on the same pictures inside real memory cgroups: who finishes, who is killed? Needs root.

    python tests/bench/bench_memory_limits.py [--count 20] [--limits 2048,1024,512,256] [--images FOLDER] [--plot PNG]

Both go through the pictures one after the other. A program that the kernel kills is started again behind the picture
that killed it, which counts as lost. A page refused with a reason (TooLarge) is counted apart: nothing was
lost. Ours runs with the profile that it chooses itself ("auto"). "held" is the peak of what the kernel cannot drop,
"RSS" that of the process, with the pages of libraries: it can lie above the limit.
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
from tests.bench.memory_chart import Limited, draw_limits
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
    held_mb: float = 0.0
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
        outcome.held_mb = cgroup.usage().held_mb
    outcome.seconds = time.perf_counter() - started
    return outcome


def mixed(folder: Path, count: int, photos: Path | None) -> list[Path]:
    """``count`` ordinary photos, drawn or a folder's own, and the eight large or odd ones, mixed by name."""
    drawn = write_mixed_apart(folder, 0 if photos else count)
    if photos:
        real = sorted(path for path in photos.iterdir() if path.is_file())[:count]
        step = max(1, len(real) // len(drawn))
        for number, path in enumerate(real):
            (folder / f"{number:05}-{path.name}").symlink_to(path.resolve())
        for number, path in enumerate(drawn):
            path.rename(folder / f"{number * step:05}-x-{path.name}")
    return sorted(folder.iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="ordinary photos besides the eight large or odd ones")
    parser.add_argument("--limits", default="2048,1024,512,256", help="MiB, separated by commas")
    parser.add_argument("--images", type=Path, help="take the ordinary photos from this folder instead of drawing them")
    parser.add_argument("--plot", type=Path, help="where to draw the table, for example docs/memory-limits.png")
    arguments = parser.parse_args()
    programs: list[tuple[str, list[str], Parse]] = [
        ("naive", [sys.executable, str(ROOT / "tests/bench/naive_loop.py")], naive_ok),
        ("ours", [sys.executable, "-m", "detector.cli", "detect"], our_ok),
    ]
    results: list[Limited] = []
    with tempfile.TemporaryDirectory() as temporary:
        images = mixed(Path(temporary) / "pictures", arguments.count, arguments.images)
        print(f"{len(images)} pictures, machine load {os.getloadavg()[0]:.1f}\n")
        print("limit MB  program    ok  refused  lost  success  OOM kills  held MB  RSS MB  pictures/s (with restarts)")
        for limit_mb in map(int, arguments.limits.split(",")):
            for name, command, is_ok in programs:
                try:
                    got = drive(command, is_ok, images, limit_mb)
                except NoCgroup as error:
                    sys.exit(str(error))
                share, rate = got.ok / len(images), (got.ok + got.refused) / got.seconds
                results.append(
                    Limited(name, name == "ours", limit_mb, share, got.refused / len(images), rate, got.oom_kills)
                )
                print(
                    f"{limit_mb:8}  {name:8} {got.ok:4}  {got.refused:7}  {len(got.lost):4}  {share:7.0%}"
                    f"  {got.oom_kills:9}  {got.held_mb:7.0f}  {got.peak_mb:6.0f}  {rate:10.2f}   "
                    f"{', '.join(got.lost[:4])}",
                    flush=True,
                )
    if arguments.plot:
        draw_limits(
            results, arguments.plot, f"The same {len(images)} pictures, one process, one thread, 80 MP among them"
        )


if __name__ == "__main__":
    main()
