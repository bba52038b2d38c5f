"""The producer's machine is lost in the middle, with what it had collected: another one goes on, every page once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.processes import command, wait_until
from worker.app import IMAGE_QUEUE
from worker.ledger.ledger import Ledger
from worker.messages import ImageRecord, encode, split_task_id
from worker.redis_keys import JobKeys

JOB, PAGES = "lost", 400
KEYS = JobKeys.of(JOB)


class Worker(threading.Thread):
    """Speaks a worker's protocol: takes messages, begins and finishes their pages, up to a number."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._client = redis.Redis.from_url(url)
        self._ledger = Ledger(self._client, ttl_s=3600)
        self.done = 0
        self.most = 120
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            if self.done >= self.most or (taken := self._client.brpop([IMAGE_QUEUE], timeout=0.1)) is None:
                self.ended.wait(0.01)
                continue
            job, index = split_task_id(json.loads(taken[1])["headers"]["id"]) or ("", 0)
            task = json.loads(self._client.hget(JobKeys.of(job).tasks, index).split(b" ", 1)[1])
            if self._ledger.begin(job, index, redelivered=False, epoch=task["epoch"]).verdict == "run":
                record = ImageRecord(job=job, index=index, image=task["image"], page=0, status="ok")
                self._ledger.finish(job, index, ok=True, record=encode(record), epoch=task["epoch"])
                self.done += 1


@pytest.fixture
def worker(environment: dict[str, str]) -> Iterator[Worker]:
    thread = Worker(environment["OCRFLEET_REDIS_URL"])
    thread.start()
    yield thread
    thread.ended.set()
    thread.join()


def count(out: Path) -> Counter[int]:
    lines = (out / "results.jsonl").read_text().splitlines() if (out / "results.jsonl").exists() else []
    return Counter(json.loads(line)["index"] for line in lines)


def test_another_machine_goes_on(
    environment: dict[str, str], client: redis.Redis, worker: Worker, tmp_path: Path
) -> None:
    """Before: "was enqueued on another machine: resume it there", for ever, and what it had collected was gone."""
    images, out = tmp_path / "in", tmp_path / "out"
    images.mkdir()
    for index in range(PAGES):
        (images / f"{index:03d}.jpg").touch()

    def begin(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "producer.cli", *arguments, "--quiet"], env=environment)

    enqueue = begin("enqueue", os.fspath(images), "--job", JOB, "--watch")
    wait_until(lambda: client.exists(KEYS.job), seconds=30, what="the job")
    collect = begin("collect", JOB, "-o", os.fspath(out), "--follow")
    wait_until(lambda: sum(count(out).values()) >= 100, seconds=30, what="records on the disk to be lost")
    for process in (enqueue, collect):
        process.kill()
        process.wait()
    assert b"\0" in client.getrange(KEYS.state, 0, -1), "half fed"
    shutil.rmtree(out)
    shutil.rmtree(environment["XDG_STATE_HOME"])

    elsewhere = {**environment, "XDG_STATE_HOME": str(tmp_path / "other-state")}
    told = command(elsewhere, "ocr-producer", "resume", JOB, "--quiet")
    assert told.returncode == 2 and "if that machine is lost" in told.stderr, "it may only have been slow"
    client.hset(KEYS.job, "fed_ms", 1)  # half a minute later
    worker.most = PAGES * 2
    new = tmp_path / "new"
    told = command(elsewhere, "ocr-producer", "resume", JOB, "--adopt", new, "--quiet")
    assert told.returncode == 0 and f"its list of {PAGES} images came from the broker" in told.stderr, told.stderr
    told = command(elsewhere, "ocr-producer", "collect", JOB, "-o", new, "--follow", "--quiet", "--no-report")
    assert told.returncode == 0, told.stderr
    assert count(new) == dict.fromkeys(range(PAGES), 1)
    names = {json.loads(line)["index"]: json.loads(line)["image"] for line in (new / "results.jsonl").open()}
    assert names == {index: f"{index:03d}.jpg" for index in range(PAGES)}
    assert not client.exists(KEYS.manifest), "complete on a disk: the list is needed no more"
