"""Cleanup on two machines with two clocks running at once, and workers that leave in the middle of a job."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
import redis

from tests.fleet.machines import lab
from tests.fleet.test_three_machines import Fleet
from tests.pictures import write_images
from tests.processes import WorkerProcess, command, wait_until
from worker.ledger import Ledger
from worker.ops.cleanup import last_reports
from worker.ops.foreign_keys import foreign_keys
from worker.settings import read_settings

PAGES = 16  # three workers leave in the middle of their first or second
MAKE_SPOOL = "import sys, pathlib, worker.storage.spool as s; s.open_spool(pathlib.Path(sys.argv[1]))"


@pytest.mark.slow
def test_two_machines_two_clocks(tmp_path: Path) -> None:
    with lab() as made:
        fleet = Fleet(made, tmp_path)
        spool = read_settings({"OCRFLEET_SPOOL_DIR": str(tmp_path / "spool")}).spool
        litter = (
            f"{sys.executable} -c '{MAKE_SPOOL}' {spool}; echo old > {spool}/page-old.jpg; "
            f"touch -d '3 days ago' {spool}/page-old.jpg; "
            f"echo new > {spool}/page-new.jpg; "
        )
        for name in ("one", "two"):
            machine = made.add(name, memory_mb=400, cores=0.5, disk=tmp_path)
            # Its disk exists only inside its own mount namespace: the program that litters becomes the worker.
            program = ["sh", "-c", f"{litter}exec {sys.executable} -m celery -A worker.app worker --loglevel INFO"]
            machine.start(program, fleet.environment(), fleet.logs / f"{name}.log")
        every_minute = {**fleet.environment(), "OCRFLEET_CLEANUP_CRON": "* * * * *"}
        for number in (1, 2):
            beat = [sys.executable, "-m", "worker.cli", "beat"]
            fleet.hub.start(beat, every_minute, fleet.logs / f"beat{number}.log")

        def log(name: str) -> str:
            return (fleet.logs / f"{name}.log").read_text()

        def cleaned_twice() -> bool:
            return all(log(name).count("INFO cleanup:") >= 2 for name in ("one", "two"))

        wait_until(cleaned_twice, seconds=150, what="both machines to clean up, once for each clock")
        reports = last_reports(fleet.client)
        assert set(reports) == {"one", "two"}
        for name in ("one", "two"):
            removed = [line.split("removed ")[1] for line in log(name).splitlines() if "INFO cleanup:" in line]
            assert removed[0].startswith("1 temporary files"), removed
            assert all(line.startswith("0 temporary files") for line in removed[1:]), "only old files, and once"
            assert "Traceback" not in log(name)
        report = [sys.executable, "-m", "worker.cli", "cleanup", "--report"]
        fleet.hub.start(report, fleet.environment(), tmp_path / "report.txt").wait(30)
        assert {line.split()[0] for line in (tmp_path / "report.txt").read_text().splitlines()} == {"one", "two"}


def test_leaving_workers_lose_nothing(
    environment: dict[str, str], tmp_path: Path, client: redis.Redis, ledger: Ledger
) -> None:
    """Scale down: SIGTERM in the middle of an image. It is finished or handed back, and never counted as a failure."""
    write_images(tmp_path / "in", PAGES, width=1600, height=1200)
    fed = command(environment, "ocr-producer", "enqueue", tmp_path / "in", "--job", "shrinking", "-q")
    assert fed.returncode == 0, fed.stderr
    for number in range(3):
        leaving = WorkerProcess(environment, tmp_path / f"worker-{number}.log")
        before = done(ledger)
        wait_until(lambda before=before: done(ledger) > before and ledger.leased("shrinking"), seconds=60, what="work")
        assert leaving.stop() == 0
        assert client.hlen("unacked") == 0, "a worker that left holds nothing"
    last = WorkerProcess(environment, tmp_path / "worker.log")
    try:
        collect = ("ocr-producer", "collect", "shrinking", "-o", tmp_path / "out", "--follow", "-q", "--no-report")
        told = command(environment, *collect)
        assert told.returncode == 0, told.stderr
        assert not list(foreign_keys(client)), "all that real workers and producers make is known"
    finally:
        last.stop()
    records = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert Counter(record["index"] for record in records) == Counter(range(PAGES))
    assert {record["status"] for record in records} == {"ok"}
    assert {record["attempts"] for record in records} == {1}


def done(ledger: Ledger) -> int:
    status = ledger.status("shrinking")
    return status.done if status else 0
