"""A compressed tar that takes longer to read than a page may: no page pays for what lies before it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections import defaultdict
from pathlib import Path

import pytest
import redis

from tests.pictures import write_images
from tests.processes import WorkerProcess, command, wait_until
from worker.app import UNACKED_INDEX

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

PAGES = 16
BETWEEN = 200_000
"""Bytes from page to page, of a file that is no page."""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "pages.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for page in write_images(tmp_path / "in", PAGES):
            info = tarfile.TarInfo(f"{page.stem}.bin")
            info.size = BETWEEN
            tar.addfile(info, io.BytesIO(os.urandom(BETWEEN)))
            tar.add(page, page.name)
    return path


def collected(environment: dict[str, str], archive: Path, out: Path) -> subprocess.Popen[str]:
    fed = command(environment, "ocr-producer", "enqueue", archive, "--job", "way", "--quiet")
    assert fed.returncode == 0, fed.stderr
    collect = ["collect", "way", "-o", str(out), "--follow", "--quiet", "--no-report"]
    return subprocess.Popen([sys.executable, "-m", "producer.cli", *collect], env=environment)


def records(out: Path) -> list[dict[str, object]]:
    path = out / "results.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def test_no_page_pays_for_the_way_to_it(
    environment: dict[str, str], archive: Path, tmp_path: Path, client: redis.Redis
) -> None:
    """A pass takes 6.4 s, a page may take 3, and a child lives for 4 pages: before, most of the last were TimedOut."""
    environment |= {
        "OCRFLEET_TASK_TIMEOUT_S": "3",
        "OCRFLEET_MAX_TASKS_PER_CHILD": "4",
        "TEST_BYTES_A_S": "500000",
        "TEST_OPENED": str(tmp_path / "opened"),
    }
    out, log = tmp_path / "out", tmp_path / "worker.log"
    collector = collected(environment, archive, out)
    worker = WorkerProcess(environment, log, "-I", "tests.chaos.slow_archive")
    taken: dict[bytes, list[float]] = defaultdict(list)

    def is_done() -> bool:
        for tag, since in client.zrange(UNACKED_INDEX, 0, -1, withscores=True):
            taken[tag].append(since)
        return collector.poll() is not None

    try:
        wait_until(lambda: len(records(out)) >= 11, seconds=60, what="a child to come far")
        worker.kill_child()
        wait_until(is_done, seconds=60, what="the end")
    finally:
        worker.stop()
        collector.kill()
        print(log.read_text())
    done = records(out)
    assert [record["status"] for record in done] == ["ok"] * PAGES
    more = [record["index"] for record in done if record["attempts"] != 1 or record["flags"]]
    assert len(more) <= 1, "the page whose child was killed"
    opened = (tmp_path / "opened").read_text().split()
    assert len(set(opened)) == 2, "a child comes to the end, or to its own"
    assert len(opened) - len(more) == 2, "the page that lost its child comes last, and lies before all others"
    assert max(times[-1] - times[0] for times in taken.values()) > 2, "Redis would give it to another worker too"


def test_an_archive_that_stops_ends(environment: dict[str, str], archive: Path, tmp_path: Path) -> None:
    environment |= {
        "OCRFLEET_TASK_TIMEOUT_S": "2",
        "OCRFLEET_MAX_ATTEMPTS": "1",
        "TEST_BYTES_A_S": "5000000",
        "TEST_STOPS_AT": str(14 * BETWEEN),
        "TEST_STILL_S": "1",
        "TEST_OPENED": str(tmp_path / "opened"),
    }
    collector = collected(environment, archive, tmp_path / "out")
    worker = WorkerProcess(environment, tmp_path / "worker.log", "-I", "tests.chaos.slow_archive")
    try:
        assert collector.wait(60) == 1
    finally:
        worker.stop()
        collector.kill()
        print((tmp_path / "worker.log").read_text())
    failed = [record["error"]["type"] for record in records(tmp_path / "out") if record["status"] == "failed"]  # type: ignore[index]
    assert 2 <= len(failed) <= 4 and set(failed) == {"TimedOut"}
