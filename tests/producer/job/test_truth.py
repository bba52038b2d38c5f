"""What progress says is true: nobody works, no time to go; a mistyped folder is that, and not the broker."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from producer.job import loop
from producer.job.loop import JobLoop
from producer.job.status import StatusRow
from producer.job.view import COLLECTING, WAITING
from producer.output.terminal import Progress
from tests.pictures import write_images
from tests.processes import command
from worker.app import app_for
from worker.ledger.ledger import Ledger
from worker.messages import ImageTask
from worker.ops.diagnosis import Situation
from worker.ops.worker_registry import GONE_S, WorkerNote, note_worker
from worker.settings import Settings

JOB = "job"


class Watcher:
    """Keeps the states it is told; after the third the job is cancelled, which ends the loop."""

    total: int | None = None

    def __init__(self, ledger: Ledger) -> None:
        self.states: list[str] = []
        self._ledger = ledger

    def update(self, done: int, failed: int, peak_rss_mb: float, state: str) -> None:
        self.states.append(state)
        if len(self.states) == 3:
            self._ledger.cancel(JOB)

    def warn(self, line: str) -> None: ...

    def note(self, line: str) -> None: ...


@pytest.mark.parametrize(("age_s", "state"), [(None, WAITING), (GONE_S + 5, WAITING), (1, "working")])
def test_waiting_for_workers_whenever_none_is_alive(
    ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch, age_s: float | None, state: str
) -> None:
    """Half of the job is done already: that says nothing of now."""
    monkeypatch.setattr(loop, "STATUS_EVERY_S", 0.0)
    ledger.create(JOB, 2, {})
    ledger.feed([ImageTask(job=JOB, index=index, image="a", uri="file:///a") for index in range(2)])
    ledger.begin(JOB, 0, redelivered=False)
    ledger.finish(JOB, 0, ok=True, record=b"{}")
    if age_s is not None:
        note_worker(ledger.client, "host:1", WorkerNote(time.time() - age_s, 0.0, "1", "low", 0))
    watcher = Watcher(ledger)
    JobLoop(app_for(settings), ledger, JOB, watcher).run()
    assert watcher.states[:3] == [state] * 3
    status = ledger.status(JOB)
    assert status is not None


def test_status_promises_nothing_without_workers(ledger: Ledger, environment: dict[str, str]) -> None:
    ledger.create(JOB, 2, {})
    ledger.feed([ImageTask(job=JOB, index=index, image="a", uri="file:///a") for index in range(2)])
    ledger.begin(JOB, 0, redelivered=False)
    ledger.finish(JOB, 0, ok=True, record=b"{}")
    told = command(environment, "ocr-producer", "status", JOB)
    assert "no worker reports" in told.stdout and "to go" not in told.stdout
    row = json.loads(command(environment, "ocr-producer", "status", JOB, "--json").stdout)
    assert row["eta_seconds"] is None and "no worker reports" in row["why"]
    status = ledger.status(JOB)
    assert status is not None and StatusRow.of(status, Situation(1, {})).eta_seconds is not None
    row = StatusRow.of(status._replace(now_s=status.now_s + 61), Situation(1, {}))
    assert row.eta_seconds is None and re.search("nothing was done for 6. s, though 1 workers report", row.why)


def test_no_speed_from_records_that_were_there_before() -> None:
    """30,000 pages of an interrupted job appear at once; those of a collected one are only fetched."""
    clock = [0.0]
    stream = io.StringIO()
    progress = Progress(console=Console(file=stream, width=200), clock=lambda: clock[0])
    progress.update(0, 0, 0.0, "found 1000")
    progress.total = 40_000
    clock[0] = 1.5
    progress.update(30_000, 0, 0.0, "working")
    assert progress.facts(30_000, 0, 0.0) == ["30,000/40,000"]
    clock[0] = 1.6
    assert progress.facts(30_256, 0, 0.0) == ["30,256/40,000"], "a bundle in a tenth of a second is no rate"
    clock[0] = 11.5
    progress.update(30_100, 0, 0.0, "working")
    assert progress.facts(30_100, 0, 0.0)[1] == "10 images/s"
    assert progress.facts(30_100, 0, 0.0, waiting=True) == ["30,100/40,000"]
    progress.update(40_000, 0, 0.0, COLLECTING)
    clock[0] = 20
    assert progress.facts(40_000, 0, 0.0) == ["40,000/40,000"]


def test_a_mistyped_folder_is_not_the_brokers_fault(environment: dict[str, str], tmp_path: Path) -> None:
    nobody = environment | {"OCRFLEET_REDIS_URL": "redis://127.0.0.1:1/0"}
    told = command(nobody, "ocr-producer", "enqueue", tmp_path / "nowhere", "--job", JOB)
    assert told.returncode == 4 and "nowhere: no such file or folder" in told.stderr and "broker" not in told.stderr


@pytest.mark.slow
def test_a_typo_claims_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = ("ocr-producer", "run", "-o", out, "--quiet", "--no-report")
    told = command(environment, *run, tmp_path / "nowhere")
    assert told.returncode == 4 and not out.exists()
    (tmp_path / "empty").mkdir()
    out.mkdir()
    told = command(environment, *run, tmp_path / "empty")
    assert told.returncode == 4 and list(out.iterdir()) == []
    write_images(tmp_path / "in", 1)
    told = command(environment, *run, tmp_path / "in")
    assert told.returncode == 0, told.stderr


def test_a_run_killed_between_scan_and_claim_can_be_given_again(environment: dict[str, str], tmp_path: Path) -> None:
    write_images(tmp_path / "in", 1)
    (tmp_path / "out" / ".ocrfleet").mkdir(parents=True)
    (tmp_path / "out" / "manifest.jsonl").write_text('{"index":0,"image":"b","uri":"file:///b","page":0}\n')
    told = command(environment, "ocr-producer", "run", tmp_path / "in", "-o", tmp_path / "out", "-q", "--no-report")
    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize("output", [(), ("--watch", "--output", "s3://bucket/out")])
def test_s3_that_does_not_answer_is_one_line(
    environment: dict[str, str], ledger: Ledger, output: tuple[str, ...]
) -> None:
    aws = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_RETRY_MODE": "standard",
    }
    told = command(environment | aws, "ocr-producer", "enqueue", "s3://bucket/in", "--job", JOB, *output)
    assert told.returncode == 4 and told.stderr.count("\n") == 1
    assert told.stderr.startswith("Error: s3://bucket/in: ") and "127.0.0.1:1" in told.stderr


def test_s3_without_its_library_is_one_line(environment: dict[str, str], ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "s3fs.py").write_text("raise ImportError('No module named s3fs', name='s3fs')")
    without = environment | {"PYTHONPATH": str(tmp_path)}
    told = command(without, "ocr-producer", "enqueue", "s3://bucket/in", "--job", JOB)
    assert told.returncode == 4 and told.stderr.count("\n") == 1
    assert "pip install 'ocrfleet[s3]'" in told.stderr
