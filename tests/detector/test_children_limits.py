"""Every program of ours that decodes strangers' files keeps to a hard limit, and answers or is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from detector.images.budget import DEFAULT_MAX_BYTES
from tests.hostile import jpeg2000, nested_pdf_forms

LIMIT_MB, OVER_MB = 192, 150
MEASURE = """
import os, sys
child = os.posix_spawn(sys.executable, [sys.executable, "-P", "-m", sys.argv[1]], os.environ)
print(os.wait4(child, 0)[2].ru_maxrss // 1024, file=sys.stderr)
"""
PROGRAMS: dict[str, tuple[dict[str, Any], int]] = {
    "detector.overlay": ({"boxes": [[[0, 0], [9, 0], [9, 9], [0, 9]]], "out": "o.jpg", "page": 0}, LIMIT_MB),
    "detector.shrink": ({"page": 0, "limit_side": 640, "max_pixels": 10**9, "out": "o.jpg"}, LIMIT_MB),
    # At a page's full size.
    "detector.reading.crop_process": (
        {"page": 0, "boxes": [], "out": ".", "names": []}, (DEFAULT_MAX_BYTES >> 20) + 160,
    ),
    "detector.images.count_pages": ({}, 256),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_it_keeps_its_limit(program: str, tmp_path: Path) -> None:
    """Before: 1.7 GB for a PDF of nested forms, 6.8 GB for 128 bytes of JPEG 2000."""
    question, limit_mb = PROGRAMS[program]
    (tmp_path / "a.jp2").write_bytes(jpeg2000())
    (tmp_path / "b.pdf").write_bytes(nested_pdf_forms())  # last: pdfium may end the process
    # Not the PDF where the limit is high: pdfium takes 10 s to come so far.
    names = ["a.jp2", "b.pdf"] if limit_mb < 512 else ["a.jp2"]
    lines = "".join(json.dumps({**question, "path": str(tmp_path / name)}) + "\n" for name in names)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, program],
        input=lines,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OCRFLEET_MEMORY_LIMIT_MB": str(LIMIT_MB), "PYTHONPATH": str(root)},
    )
    peak_mb = int(done.stderr.split()[-1])
    assert peak_mb < limit_mb + OVER_MB
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers and not answers[0]["ok"]
