"""What operators and other people's Redis do to a job: it ends, and it says how."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.rig import JOB, Rig
from worker.app import IMAGE_QUEUE

pytestmark = pytest.mark.chaos


def records(rig: Rig) -> dict[int, dict[str, object]]:
    lines = (rig.out / "results.jsonl").read_text().splitlines()
    return {record["index"]: record for record in map(json.loads, lines)}


def celery(rig: Rig, *arguments: str) -> str:
    """What an operator types; Flower's buttons send the same."""
    told = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker.app", *arguments],
        env=rig.environment_of("hub"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return told.stdout + told.stderr


@pytest.mark.parametrize("how", [["revoke"], ["terminate", "SIGKILL"]])
def test_a_revoked_page_gets_its_record_and_a_retry_runs_it(rig: Rig, how: list[str]) -> None:
    """Before: Celery dropped its message each time it was sent, and the job hung for up to three hours."""
    worker = rig.start_worker()
    assert rig.command("ocr-producer", "enqueue", rig.images(1), "--job", "first", "--quiet").returncode == 0
    rig.wait_done(1, seconds=60, job="first")
    worker.process.send_signal(signal.SIGSTOP)
    assert rig.command("ocr-producer", "enqueue", rig.images(8), "--job", JOB, "--quiet").returncode == 0
    celery(rig, "control", "--timeout", "1", *how, f"{JOB}:7", f"{JOB}:5")
    worker.process.send_signal(signal.SIGCONT)
    rig.wait_done(8, seconds=60)
    told = rig.command("ocr-producer", "collect", JOB, "-o", rig.out, "--quiet", "--no-report")
    assert told.returncode == 1, told.stderr
    failed = {index: record for index, record in records(rig).items() if record["status"] == "failed"}
    assert set(failed) == {5, 7} and "by an operator" in str(failed[7]["error"])
    assert rig.command("ocr-producer", "retry", JOB, "--quiet").returncode == 0
    rig.wait_done(8, seconds=60)
    told = rig.command("ocr-producer", "collect", JOB, "-o", rig.out, "--quiet", "--no-report")
    assert told.returncode == 0, told.stderr
    assert worker.alive


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_pools_that_mix_up_pages_are_refused(rig: Rig, pool: str) -> None:
    """Before: ``-P threads`` gave 31 of 500 pages other pages' boxes, all "ok"."""
    told = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "-P", pool],
        env=rig.environment_of("hub"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode != 0
    if pool == "threads":
        assert "images need a process each" in told.stderr, told.stderr[-1000:]


def test_a_broker_that_evicts_is_refused(rig: Rig) -> None:
    """Before: only the doctor looked; volatile-lru and allkeys-lru evicted records for good."""
    rig.server.client.config_set("maxmemory-policy", "allkeys-lru")
    told = rig.command("ocr-producer", "enqueue", rig.images(1), "--job", JOB, "--quiet")
    assert told.returncode == 3 and "noeviction" in told.stderr and told.stderr.count("\n") == 1
    assert rig.server.client.keys("ocrfleet:*") == []
    told = rig.command("ocr-worker", "start")
    assert told.returncode == 3 and "noeviction" in told.stderr
    assert "ocr-worker: the broker cannot be used" in celery(rig, "worker"), "plain Celery's worker too"


def test_a_read_only_replica_is_named(rig: Rig) -> None:
    rig.server.client.config_set("replica-serve-stale-data", "yes")
    rig.server.client.replicaof("127.0.0.1", 1)
    told = rig.command("ocr-producer", "enqueue", rig.images(1), "--job", JOB, "--quiet")
    assert told.returncode == 3 and "read-only replica of 127.0.0.1" in told.stderr


def test_status_says_why_nothing_moves(rig: Rig) -> None:
    """Before: "5 s to go", for ever."""
    assert rig.command("ocr-producer", "enqueue", rig.images(3), "--job", JOB, "--quiet").returncode == 0
    told = rig.command("ocr-producer", "status", JOB)
    assert "no worker reports" in told.stdout
    told = rig.command("ocr-producer", "collect", JOB, "-o", rig.out, "--quiet", "--no-report")
    assert told.returncode == 1 and "no worker reports" in told.stderr, "an unfinished job says so"
    long_ago = int((time.time() - 600) * 1000)
    rig.server.client.hset(f"ocrfleet:job:{JOB}", mapping={"fed_ms": long_ago, "created_ms": long_ago, "total": 5})
    told = rig.command("ocr-producer", "status", JOB, "--json")
    row = json.loads(told.stdout)
    assert "2 pages were never fed" in row["why"] and "resume" in row["why"] and row["eta_seconds"] is None
    assert "never fed" in rig.command("ocr-worker", "doctor").stdout
    rig.command("ocr-producer", "cancel", JOB)
    assert "resume" in json.loads(rig.command("ocr-producer", "status", JOB, "--json").stdout)["why"]
    followed = rig.command(
        "ocr-producer", "collect", JOB, "-o", Path(rig.folder / "b"), "--follow", "-q", "--no-report"
    )
    assert followed.returncode == 1 and "cancelled" in followed.stderr, "before: 0"
    assert rig.command("ocr-producer", "watch", JOB, "--quiet").returncode == 1


def test_a_page_no_worker_understands_becomes_a_failed_record(rig: Rig) -> None:
    """Before: the number was never on the wire, and a task of a schema to come was sent again for ever."""
    images = rig.images(2)
    assert rig.command("ocr-producer", "enqueue", images, "--job", JOB, "--quiet").returncode == 0
    key = f"ocrfleet:job:{JOB}:tasks"
    entry = rig.server.client.hget(key, 1)
    assert entry is not None and b'"schema":1' in entry
    rig.server.client.hset(key, 1, entry.replace(b'"schema":1', b'"schema":2'))
    rig.server.client.delete(IMAGE_QUEUE)  # lost: the reconciler sends both again, as they are
    rig.environment |= {"OCRFLEET_MAX_ATTEMPTS": "2", "OCRFLEET_LEASE_S": "3"}  # it looks every second
    rig.start_worker()
    rig.wait_done(2, seconds=60)
    assert rig.command("ocr-producer", "collect", JOB, "-o", rig.out, "--quiet", "--no-report").returncode == 1
    assert "no worker understands it" in str(records(rig)[1]["error"])
