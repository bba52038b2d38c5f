"""Files are read whole only up to a bound (`detector.errors.read_text`, `producer.no_links.read_small`)."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
WHOLE = re.compile(r"\.(read_text|read_bytes)\(|\.(read|readline|readlines|readall)\(\)|json\.load\(")
PROC = re.compile("/proc|/sys|PROC|BOOT_ID")
ALLOWED = {
    **dict.fromkeys(
        ("detector/cli/program.py", "detector/machine.py", "detector/memory.py", "worker/oom.py"), "the kernel's"
    ),
    "worker/ops/life_signs.py": "the kernel's",
    **dict.fromkeys(("detector/public/models.py", "producer/output/report.py"), "of the package, or just drawn"),
    "detector/convert/prune.py": "just written",
    "producer/detector_process/draw.py": "just drawn",
    "producer/web/store.py": "the page's own folder",
    "producer/local/server.py": "4 KB from the end",
    "worker/storage/zips.py": "64 KB from the end",
    "worker/broker/short_replies.py": "the reader that bounds replies",
    "producer/web/client.py": "what the server answers that its user chose",
    **dict.fromkeys(
        ("detector/evaluation/isolated_run.py", "producer/web/bounds/makings.py"), "of the process that was started"
    ),
    "producer/detector_process/line_process.py": "of the process that was started",
    # Pictures have no bound of their own: a limit of the process's memory is set before.
    **dict.fromkeys(("detector/images/source.py", "detector/images/regular_file.py"), "pictures"),
    **dict.fromkeys(("detector/images/decode.py", "detector/images/decoders/jpeg.py"), "pictures"),
    "producer/output/pdf/pictures.py": "pictures",
}


def test_no_file_of_somebody_is_read_whole() -> None:
    """Before: `truncate -s 400M run/config.json; ocr-detector train --resume run` took 1 GB."""
    found = set()
    for package in ("detector", "producer", "worker"):
        for path in (ROOT / package).rglob("*.py"):
            lines = path.read_text(encoding="utf-8").splitlines()
            if any(WHOLE.search(line) and not PROC.search(line) for line in lines):
                found.add(str(path.relative_to(ROOT)))
    assert found == set(ALLOWED)
