"""A 256 MB worker and a 512 MB all-in-one machine: hundreds of pages, giants among them, and nobody dies? Needs root.

    python tests/bench/bench_small_worker.py --images FOLDER [--images FOLDER...] [--pages 500] [--only worker|run]

Pages: the giants of ``giants.py`` (80 megapixel files, a 50-page PDF of scans, panoramas, tiny ones), the rest from
the folders in turn. "worker": Celery's main process and its child inside a memory cgroup of 256 MB, broker and producer
outside. "run": ``ocr-producer run`` with its server, producer and worker inside 512 MB. They choose the profile.

Good is: no OOM kill, no lost child, no second try, every page ok; but the progressive 80 MP JPEG may be TooLarge.
"held" is the peak of what the kernel cannot drop (see ``cgroup.Usage``); "kernel peak" counts cached files and comes to
the limit in any long job. Exit code 1 if anything was not good.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.cgroup import NoCgroup
from tests.bench.confined import Outcome, run_all_in_one, run_worker
from tests.bench.giants import PROGRESSIVE, write_giants_apart
from tests.bench.pictures import write_mixed_apart

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"}
MODES = {"worker": (run_worker, 256), "run": (run_all_in_one, 512)}


def real_images(folders: list[Path]) -> Iterator[Path]:
    """Pictures of the folders in turn, so that sizes and kinds mix."""
    listings = [sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES) for folder in folders]
    for row in itertools.zip_longest(*listings):
        yield from (path for path in row if path is not None)


def make_folder(folder: Path, sources: list[Path], pages: int) -> int:
    """Links to real pictures, and the giants, mixed by name. Returns how many pages there are."""
    scans = list(itertools.islice(real_images(sources), 50))
    count = write_giants_apart(folder, scans)
    giants = sorted(folder.iterdir())
    if sources:
        rest = list(itertools.islice(real_images(sources), pages - count))
    else:
        apart = folder.with_name("drawn")
        rest = write_mixed_apart(apart, max(0, pages - count - 8))
    step = max(1, len(rest) // len(giants))
    for number, path in enumerate(rest):
        (folder / f"{number:05}-{path.name}").symlink_to(path.resolve())
    # Scattered: what a giant leaves behind shows in the pages after it.
    for number, path in enumerate(giants):
        path.rename(folder / f"{number * step:05}-x-{path.name}")
    return count + len(rest)


def faults(outcome: Outcome, pages: int) -> list[str]:
    """What was not good, a line each."""
    found = []
    if outcome.usage.oom_kills:
        found.append(f"the kernel killed {outcome.usage.oom_kills} times")
    if outcome.lost_children:
        found.append(f"{outcome.lost_children} children were lost")
    if len(outcome.records) != pages:
        found.append(f"{len(outcome.records)} records for {pages} pages")
    for record in outcome.retried:
        found.append(f"{record['image']} page {record['page']} took {record['attempts']} tries")
    for record in outcome.records:
        if record["error"] and not (record["error"]["type"] == "TooLarge" and PROGRESSIVE in record["image"]):
            found.append(f"{record['image']}: {record['error']['type']}: {record['error']['message']}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, action="append", default=[], help="folder of real pictures")
    parser.add_argument("--pages", type=int, default=500)
    parser.add_argument("--only", choices=list(MODES))
    parser.add_argument("--limit", type=int, help="MiB, instead of 256 (worker) or 512 (run)")
    parser.add_argument("--log", type=Path, help="keep the workers' log here")
    arguments = parser.parse_args()
    bad = False
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        pages = make_folder(root / "in", arguments.images, arguments.pages)
        print(f"{pages} pages, machine load {os.getloadavg()[0]:.1f}\n")
        print("         limit  pages    ok  TooLarge  others  lost     OOM  held  kernel    ran against  pages/s")
        print("            MB                               children  kills    MB  peak MB  the limit")
        for mode in [arguments.only] if arguments.only else MODES:
            run, limit_mb = MODES[mode]
            (root / mode).mkdir()
            try:
                got = run(root / "in", arguments.limit or limit_mb, root / mode)
            except NoCgroup as error:
                sys.exit(str(error))
            if arguments.log:
                arguments.log.write_text(got.log)
            refused = got.failures.pop("TooLarge", 0)
            print(
                f"{mode:8} {arguments.limit or limit_mb:5}  {len(got.records):5} {len(got.ok):5}  {refused:8}"
                f"  {sum(got.failures.values()):6}  {got.lost_children:8}  {got.usage.oom_kills:5}"
                f" {got.usage.held_mb:5.0f}  {got.usage.peak_mb:7.0f}  {got.usage.reclaims:9}"
                f"    {len(got.records) / got.seconds:7.1f}",
                flush=True,
            )
            for fault in faults(got, pages):
                bad = True
                print(f"  bad: {fault}", file=sys.stderr)
    sys.exit(int(bad))


if __name__ == "__main__":
    main()
