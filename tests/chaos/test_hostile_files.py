"""Files that ask for gigabytes in a job: each has a record, the others are ok, no worker is lost for long."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hostile import HOSTILE_IMAGES
from tests.pictures import write_images
from tests.processes import command

LIMIT_MB = 192


@pytest.mark.chaos
@pytest.mark.slow
def test_hostile_files_cost_a_record_each(environment: dict[str, str], tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    write_images(folder, 4)
    for name, make in HOSTILE_IMAGES.items():
        (folder / name).write_bytes(make())
    limited = {**environment, "OCRFLEET_MEMORY_LIMIT_MB": str(LIMIT_MB)}
    done = command(limited, "ocr-producer", "run", folder, "-o", out, "--quiet")
    assert done.returncode == 1, done.stderr
    records = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert len(records) == 4 + len(HOSTILE_IMAGES)
    assert max(record["peak_rss_mb"] for record in records) < LIMIT_MB + 150
    tries = {record["image"]: record["attempts"] for record in records}
    assert tries["nested.pdf"] <= 2, "what aborts at the hard limit is tried once more, smaller; before: three times"
    seconds = {record["image"]: record["seconds"]["total"] for record in records}
    print({name: (tries[name], seconds[name]) for name in HOSTILE_IMAGES})
    failed = {record["image"]: record["error"]["type"] for record in records if record["status"] == "failed"}
    assert set(failed) == set(HOSTILE_IMAGES)
    assert failed["nested.pdf"] == "OutOfMemory"
    assert failed["animated.webp"] == failed["panorama.png"] == "TooLarge", "weighed before a pixel is decoded"
