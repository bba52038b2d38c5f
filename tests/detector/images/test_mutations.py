"""Whatever is done to a file: a page, or one of our errors, soon, and in little memory; never a bug's traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.mutation.mutate import SEED, seconds_for

SECONDS = seconds_for("images")
SLOWEST_S, LIMIT_MB = 10.0, 256

SPOIL = """
import io, json, os, random, sys, time
from pathlib import Path
from detector.errors import ImageError
from detector.images.page import count_pages, open_page
from detector.memory import configure_process, limit_memory, peak_rss_mb
from tests.detector.images.test_damage import SOUND
from tests.nasty_pages import FILES, HEIC

folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
rng, limit = random.Random(int(sys.argv[3])), int(sys.argv[4]) << 20
configure_process(arenas=2)
archives = (".zip", ".tar", ".xz")
sound = {name: make() for name, make in SOUND.items()}
sound |= {name: case.make() for name, case in FILES.items() if not name.endswith(archives)} | {"a.heic": HEIC}
outcomes, slowest, count, end = {}, 0.0, 0, time.monotonic() + seconds
while time.monotonic() < end:
    name = rng.choice(sorted(sound))
    data = bytearray(sound[name])
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(max(1, min(len(data), rng.choice((64, 512, len(data))))))
        what = rng.randrange(5)
        if what == 0:
            data[place : place + 1] = bytes([rng.randrange(256)])
        elif what == 1:
            data[place : place + 4] = rng.choice((b"\\xff\\xff\\xff\\xff", b"\\0\\0\\0\\0", b"\\x7f\\xff\\xff\\xff"))
        elif what == 2:
            del data[place : place + rng.randrange(1, 300)]
        elif what == 3:
            data[place:place] = rng.randbytes(rng.randrange(1, 64))
        else:
            other = sound[rng.choice(sorted(sound))]
            begin = rng.randrange(max(1, len(other)))
            data[place : place + 32] = other[begin : begin + 32]
    path = folder / ("spoilt" + Path(name).suffix)
    path.write_bytes(data)
    begun = time.monotonic()
    limit_memory(limit)
    try:
        pages = count_pages(path)
        for page in range(min(pages, 3)):
            open_page(path, page, limit_side=256, max_pixels=4_000_000, max_bytes=100 * 2**20)
        outcome = "ok"
    except ImageError as error:
        assert "\\n" not in str(error), (name, str(error))
        outcome = error.type
    except MemoryError:
        outcome = "OutOfMemory"
    except BaseException as error:
        (folder / "culprit").write_bytes(data)
        raise RuntimeError(f"{name}: {type(error).__name__}: {error}") from error
    outcomes[outcome] = outcomes.get(outcome, 0) + 1
    slowest, count = max(slowest, time.monotonic() - begun), count + 1
peak = peak_rss_mb()  # not ru_maxrss, which begins with the size of the process that started this one
print(json.dumps({"outcomes": outcomes, "slowest": slowest, "count": count, "peak_mb": peak}))
"""


def test_spoilt_files_are_pages_or_errors_of_ours(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    arguments = [sys.executable, "-c", SPOIL, str(tmp_path), str(SECONDS), str(SEED), str(LIMIT_MB)]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=root, timeout=SECONDS + 120)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["count"] >= 100 * SECONDS / 15, report
    assert {"ok", "CorruptImage", "UnsupportedFormat"} <= set(report["outcomes"]), report
    assert report["slowest"] < SLOWEST_S and report["peak_mb"] < LIMIT_MB + 150, report
