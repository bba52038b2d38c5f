"""Damaged data: a private server's append-only file, a results stream, a broker that lost its last seconds."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
import redis

from producer.job.collect import Collector
from producer.job.feed import Feeder
from producer.job.manifest import ManifestLine
from tests.faults.rig import Rig
from tests.processes import WorkerProcess, wait_until
from worker.app import app_for
from worker.ledger.ledger import Ledger
from worker.messages import ImageRecord, encode
from worker.ops import worker_registry
from worker.redis_keys import JobKeys
from worker.settings import Settings

JOB = "job"


@pytest.mark.chaos
def test_run_after_a_power_cut_that_damaged_the_servers_file(rig: Rig) -> None:
    """Before: "the local server does not start", for ever: 4 KB of zeros at the end of its append-only file."""
    images = rig.images(12)
    run = rig.begin("run", images, "-o", rig.out, "--quiet", "--no-report")
    wait_until(lambda: sum(rig.indices().values()) >= 2, seconds=60, what="records on disk")
    family = psutil.Process(run.pid).children(recursive=True)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    psutil.wait_procs(family, timeout=15)
    before = sum(rig.indices().values())
    assert before < 12, "too late to prove anything"
    data = rig.out / ".ocrfleet" / "server"
    files = list(data.rglob("*.incr.aof"))
    assert files
    for file in files:
        with file.open("ab") as stream:
            stream.write(b"\0" * 4096)
    told = rig.command("ocr-producer", "resume", rig.out, "--quiet")
    assert told.returncode == 0, told.stderr
    assert rig.indices() == dict.fromkeys(range(12), 1)
    assert list((rig.out / ".ocrfleet").glob("server-damaged-*"))


@pytest.mark.chaos
def test_run_starts_its_own_killed_server_again(rig: Rig) -> None:
    run = rig.begin("run", rig.images(30), "-o", rig.out, "--quiet", "--no-report")
    wait_until(lambda: sum(rig.indices().values()) >= 2, seconds=60, what="records on disk")
    pid = int((rig.out / ".ocrfleet" / "server" / "server.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    assert run.wait(90) == 0, run.stderr and run.stderr.read()
    assert rig.indices() == dict.fromkeys(range(30), 1)


def test_what_is_no_record_goes_to_quarantine(ledger: Ledger, tmp_path: Path) -> None:
    """Before: one unreadable entry stopped ``collect`` for ever; index 3000000000 took 2.9 GB of its memory."""
    ledger.create(JOB, 2, {})
    ledger.adopt(JOB, range(2), ok=True)
    results = JobKeys.of(JOB).results

    def record(index: int, job: str = JOB) -> bytes:
        return encode(ImageRecord(job=job, index=index, image="a", page=0, status="ok"))

    rubbish = [b"", b"garbage", b"\xff", b"[]", b"{}", record(3_000_000_000), record(-1), record(0, "other")]
    for raw in rubbish:
        ledger.client.xadd(results, {"record": raw})
    ledger.client.xadd(results, {"something": "else"})
    ledger.client.xadd(results, {"record": record(1)})
    with Collector(ledger, JOB, tmp_path / "results.jsonl", 2) as collector:
        assert [line.index for line in collector.step(block_ms=0)] == [1]
        assert collector.aside.count == len(rubbish) + 1 and collector.count == 1
    assert ledger.client.xlen(results) == 0
    kept = (tmp_path / ".ocrfleet" / "quarantine.jsonl").read_text().splitlines()
    assert len(kept) == len(rubbish) + 1 and json.loads(kept[1])["raw"] == "garbage"


def test_one_bad_note_hides_no_worker(client: redis.Redis) -> None:
    """Before: ``doctor --alive`` failed on all machines, and a rolling upgrade would have done that."""
    note = worker_registry.WorkerNote(at=1.0, started=1.0, version="1", profile="low", temp_bytes=0)
    worker_registry.note_worker(client, "a:1", note)
    client.hset(worker_registry.WORKERS_KEY, "b:1", b"garbage")
    client.hset(worker_registry.WORKERS_KEY, "c:1", msgspec.json.encode({"at": "now"}))
    assert worker_registry.workers(client) == {"a:1": note}


def test_pages_that_the_broker_forgot_are_fed_again(ledger: Ledger, settings: Settings) -> None:
    """Before: the producer lived, and the job hung with unfed pages (a snapshot restored, a lagging replica)."""
    lines = [ManifestLine(index, f"{index}.jpg", "file:///a.jpg", 0) for index in range(100)]
    ledger.create(JOB, 100, {})
    feeder = Feeder(app_for(settings), ledger, JOB, iter(lines), again=lambda first: iter(lines[first:]))
    feeder.step()
    snapshot = ledger.client.dump(JobKeys.of(JOB).state)
    assert feeder.exhausted and feeder.sent == 100
    ledger.client.setrange(JobKeys.of(JOB).state, 40, b"\0" * 60)
    ledger.client.hdel(JobKeys.of(JOB).tasks, *range(40, 100))
    ledger.client.delete("ocrfleet")
    status = ledger.status(JOB)
    assert snapshot and status is not None and status.unfed == 60
    feeder.look_again()
    feeder.step()
    status = ledger.status(JOB)
    assert status is not None and status.unfed == 0 and feeder.sent == 160 and feeder.exhausted


def test_a_broker_that_loses_what_was_just_fed(ledger: Ledger, settings: Settings) -> None:
    """Lost before the manifest's end: it is looked for there, so `enqueue` does not leave pages unfed."""
    lines = [ManifestLine(index, f"{index}.jpg", "file:///a.jpg", 0) for index in range(100)]
    ledger.create(JOB, 100, {})
    again = []

    def manifest() -> Iterator[ManifestLine]:
        for line in lines:
            if line.index == 99:
                ledger.client.setrange(JobKeys.of(JOB).state, 10, b"\0" * 5)
                ledger.client.hdel(JobKeys.of(JOB).tasks, *range(10, 15))
            yield line

    def from_index(first: int) -> Iterator[ManifestLine]:
        again.append(first)
        return iter(lines[first:])

    feeder = Feeder(app_for(settings), ledger, JOB, manifest(), again=from_index)
    until = time.monotonic() + 5
    while not feeder.exhausted and time.monotonic() < until:
        feeder.step()
    assert again == [10] and feeder.exhausted
    assert list(ledger.pages_in_state(JOB, b"\0")) == []


def test_another_apps_messages_are_left_alone(client: redis.Redis, environment: dict[str, str], tmp_path: Path) -> None:
    """Before: kombu's names were global; our worker put another Celery app's messages back on its queue."""
    raw = json.dumps([{"headers": {"id": "theirs"}, "properties": {"delivery_info": {}}}, "", "their-queue"])
    client.hset("unacked", "tag", raw)
    client.zadd("unacked_index", {"tag": 1.0})
    worker = WorkerProcess(environment, tmp_path / "worker.log")
    try:
        wait_until(lambda: client.hlen(worker_registry.WORKERS_KEY), seconds=30, what="the worker")
        time.sleep(7)  # more than one sweep
        assert client.hget("unacked", "tag") == raw.encode()
        assert client.exists("their-queue") == 0
    finally:
        worker.stop()
