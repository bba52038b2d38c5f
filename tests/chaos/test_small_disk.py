"""The output folder's disk fills up in the middle of a job: one line, and with more room the same command ends it."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pictures import write_images
from tests.processes import command
from tests.tools import missing

pytestmark = pytest.mark.chaos

COUNT = 150


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 KB: the job's own private server writes to it too."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        missing("needs root to mount a small disk (CI runs it)")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k,mode=700", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_stops_the_job_in_one_line_and_loses_nothing(
    environment: dict[str, str], tmp_path: Path, disk: Path
) -> None:
    write_images(tmp_path / "in", COUNT)
    run = ("ocr-producer", "run", tmp_path / "in", "-o", disk / "out", "--profile", "low", "--quiet", "--no-report")
    stopped = command(environment, *run)
    assert stopped.returncode in (3, 130), stopped.stderr  # the server's file or ours, whichever asked last
    last = stopped.stderr.strip().splitlines()[-1]
    assert "No space left" in last and "same command again" in last, stopped.stderr
    assert not (disk / "out" / "job.json").exists()

    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    ended = command(environment, *run)
    assert ended.returncode == 0, ended.stderr
    lines = (disk / "out" / "results.jsonl").read_text().splitlines()
    assert Counter(json.loads(line)["index"] for line in lines) == Counter(range(COUNT))
