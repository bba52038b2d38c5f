"""Against a real ``redis-server`` with a password, in several terminals: producer, worker, beat, Flower."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.pictures import write_images
from tests.ports import free_port
from tests.processes import WorkerProcess, command, running_redis, wait_until
from tests.tools import tool
from worker.broker import queue
from worker.ledger import Ledger
from worker.messages import ImageTask
from worker.settings import read_settings
from worker.storage.spool import open_spool

PASSWORD = "correct-horse"
COUNT = 8


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """Debian's redis-server on a port of its own, with a password and no eviction."""
    binary = tool("redis-server", "apt-get install redis-server")
    port = free_port()
    settings = {"port": port, "bind": "127.0.0.1", "requirepass": PASSWORD, "maxmemory-policy": "noeviction"}
    arguments = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    arguments += ["--save", "", "--dir", str(tmp_path)]
    url = f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
    with running_redis([binary, *arguments], tmp_path / "redis.log", lambda: redis.Redis.from_url(url)):
        yield url


@pytest.fixture
def fleet(environment: dict[str, str], redis_url: str) -> dict[str, str]:
    """The environment of all terminals."""
    return environment | {"OCRFLEET_REDIS_URL": redis_url}


def test_wrong_password_is_exit_3(fleet: dict[str, str]) -> None:
    fleet["OCRFLEET_REDIS_URL"] = fleet["OCRFLEET_REDIS_URL"].replace(PASSWORD, "hunter2")
    result = command(fleet, "ocr-producer", "jobs")
    assert result.returncode == 3 and len(result.stderr.strip().splitlines()) == 1
    assert "hunter2" not in result.stderr


def test_counting_down_by_none(redis_url: str) -> None:
    """Where another ``retry`` came in between, Redis refused "-0", as its Lua writes it; Valkey's does not."""
    ledger = Ledger(redis.Redis.from_url(redis_url), ttl_s=60)
    ledger.create("job", 2, {})
    assert ledger.retry("job", [0, 1]) == 0 and ledger.redo("job", [0, 1]) == 0
    ledger.feed([ImageTask(job="job", index=0, image="a", uri="file:///a")])
    ledger.finish("job", 0, ok=False, record=b"{}")
    assert ledger.redo("job", [0, 1]) == 1
    status = ledger.status("job")
    assert status is not None and (status.ok, status.failed, status.unfed) == (0, 0, 2)


def test_four_terminals(fleet: dict[str, str], redis_url: str, tmp_path: Path) -> None:
    images = tmp_path / "in"
    write_images(images, COUNT)
    client = redis.Redis.from_url(redis_url)
    port = free_port()
    flower = subprocess.Popen(
        [sys.executable, "-m", "worker.cli", "flower", "--port", str(port)],
        env=fleet | {"FLOWER_BASIC_AUTH": "me:secret"},
        stderr=(tmp_path / "flower.log").open("wb"),
        start_new_session=True,
    )
    worker = WorkerProcess(fleet, tmp_path / "worker.log")
    try:
        wait_until(lambda: flower_answers(port, "/api/workers?refresh=1"), seconds=60, what="Flower to see the worker")
        producer = subprocess.Popen(
            [sys.executable, "-m", "producer.cli", "enqueue", images, "--job", "letters", "--watch", "--quiet"],
            env=fleet,
            stderr=subprocess.PIPE,
            text=True,
        )
        most_held = 0
        while producer.poll() is None:
            most_held = max(most_held, queue.depth(client)[1])
            time.sleep(0.01)
        assert producer.returncode == 0, producer.stderr.read() if producer.stderr else ""
        assert most_held == 1, "a worker must never hold more than one unacknowledged task"

        again = command(fleet, "ocr-producer", "enqueue", images, "--job", "letters", "--watch")
        assert again.returncode == 0 and "0 sent now" in again.stderr
        status = Ledger(client, ttl_s=60).status("letters")
        assert status is not None and (status.total, status.ok, status.uncollected) == (COUNT, COUNT, COUNT)

        wait_until(lambda: len(done_tasks(port)) == COUNT, seconds=20, what="Flower to know every task")
        for task in done_tasks(port):
            assert task["name"] == "ocrfleet.detect_image"
            assert " box" in task["result"] and " MB" in task["result"]
            assert "image-0" in task["args"]
        stats = worker_stats(fleet)
        assert stats["pool"]["max-concurrency"] == 1
        assert stats["pool"]["max-tasks-per-child"] == 200
        assert stats["prefetch_count"] == 1
        collected = command(fleet, "ocr-producer", "collect", "letters", "-o", tmp_path / "out")
        assert collected.returncode == 0
        assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == COUNT
        assert command(fleet, "ocr-producer", "forget", "letters").returncode == 0
        assert client.keys("ocrfleet:job:*") == []
    finally:
        worker.stop()
        flower.terminate()
        flower.wait()


def ask_flower(port: int, path: str) -> dict:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    request.add_header("Authorization", "Basic " + base64.b64encode(b"me:secret").decode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def flower_answers(port: int, path: str) -> dict:
    try:
        return ask_flower(port, path)
    except OSError:
        return {}


def done_tasks(port: int) -> list[dict]:
    return [task for task in ask_flower(port, "/api/tasks").values() if task["state"] == "SUCCESS"]


def worker_stats(environment: dict[str, str]) -> dict:
    output = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker.app", "inspect", "stats", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return next(iter(json.loads(output).values()))


@pytest.mark.slow
def test_beat_runs_the_cleanup_on_schedule(fleet: dict[str, str], redis_url: str, tmp_path: Path) -> None:
    """Short TTLs, cleanup every minute: old results, keys and temp files go; live ones stay."""
    fleet |= {"OCRFLEET_CLEANUP_CRON": "* * * * *", "OCRFLEET_RESULT_TTL_H": "1", "OCRFLEET_TEMP_TTL_H": "1"}
    client = redis.Redis.from_url(redis_url)
    ledger = Ledger(client, ttl_s=3600)
    for job in ("old", "live"):
        ledger.create(job, 1, {})
        client.xadd(f"ocrfleet:job:{job}:results", {"record": b"{}"})
        client.hset(f"ocrfleet:job:{job}", "ok", 1)
    long_ago = int((time.time() - 7200) * 1000)
    client.hset("ocrfleet:job:old", mapping={"created_ms": long_ago, "kept_ms": long_ago})
    spool = read_settings(fleet).spool
    open_spool(spool)
    for name, age in (("page-old.jpg", 7200), ("page-young.jpg", 0)):
        (spool / name).write_bytes(b"x")
        os.utime(spool / name, (time.time() - age,) * 2)
    worker = WorkerProcess(fleet, tmp_path / "worker.log")
    beat = subprocess.Popen(
        [sys.executable, "-m", "worker.cli", "beat"],
        env=fleet,
        stderr=(tmp_path / "beat.log").open("wb"),
        start_new_session=True,
    )
    try:
        wait_until(lambda: not (spool / "page-old.jpg").exists(), seconds=90, what="the nightly cleanup")
        wait_until(lambda: client.keys("ocrfleet:job:old*") == [], seconds=10, what="the old job's keys to go")
        assert (spool / "page-young.jpg").exists()
        live = ledger.status("live")
        assert live is not None and live.uncollected == 1
        report = command(fleet, "ocr-worker", "cleanup", "--report")
        assert report.returncode == 0 and "1 files" in report.stdout
    finally:
        beat.terminate()
        beat.wait()
        worker.stop()
