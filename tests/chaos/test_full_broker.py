"""Redis reaches its maxmemory in the middle of a job: the worker waits, whatever it holds, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.pictures import write_images
from tests.processes import WorkerProcess, command, wait_until
from worker import broker
from worker.broker import PatientLedger
from worker.ledger import JobStatus, Ledger
from worker.messages import ImageTask

COUNT = 200


@pytest.fixture
def full(client: redis.Redis) -> Iterator[Callable[[bool], None]]:
    """Fills the broker, or gives it room again."""

    def set_full(yes: bool) -> None:
        client.config_set("maxmemory", "1mb" if yes else "0")

    yield set_full
    set_full(False)


@pytest.mark.chaos
def test_worker_outlives_a_full_broker(
    environment: dict[str, str], tmp_path: Path, ledger: Ledger, full: Callable[[bool], None]
) -> None:
    write_images(tmp_path / "in", COUNT)
    log = tmp_path / "worker.log"
    worker = WorkerProcess(environment, log)

    def job() -> JobStatus:
        status = ledger.status("full")
        assert status is not None
        return status

    try:
        fed = command(environment, "ocr-producer", "enqueue", tmp_path / "in", "--job", "full", "--quiet")
        assert fed.returncode == 0, fed.stderr
        wait_until(lambda: job().ok > 3, seconds=60, what="some records")
        full(True)
        wait_until(lambda: broker.FULL_WARNING in log.read_text(), seconds=20, what="the worker to notice")
        time.sleep(8)  # kombu's look for expired messages, every 5 s, needs room too
        before = job().done
        time.sleep(1)
        assert before == job().done < COUNT, "the test is to stop it in the middle"
        full(False)
        wait_until(lambda: job().finished, seconds=60, what="the rest")
        assert (job().ok, job().failed) == (COUNT, 0)
        assert worker.alive
    finally:
        worker.stop()
    assert "Traceback" not in log.read_text(), log.read_text()[-4000:]


@pytest.mark.chaos
def test_worker_started_at_a_full_broker_waits_too(
    environment: dict[str, str], tmp_path: Path, ledger: Ledger, full: Callable[[bool], None]
) -> None:
    write_images(tmp_path / "in", 3)
    fed = command(environment, "ocr-producer", "enqueue", tmp_path / "in", "--job", "full", "--quiet")
    assert fed.returncode == 0, fed.stderr
    full(True)
    log = tmp_path / "worker.log"
    worker = WorkerProcess(environment, log)
    try:
        wait_until(lambda: broker.FULL_WARNING in log.read_text(), seconds=30, what="the worker to notice")
        assert worker.alive
        full(False)
        wait_until(lambda: (status := ledger.status("full")) and status.ok == 3, seconds=30, what="the records")
    finally:
        worker.stop()
    assert "Traceback" not in log.read_text(), log.read_text()[-4000:]


def test_a_step_waits_for_room_but_not_for_ever(
    client: redis.Redis, full: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = PatientLedger(client, ttl_s=60)
    ledger.create("job", 1, {})
    ledger.feed([ImageTask(job="job", index=0, image="a", uri="file:///a")])
    full(True)
    monkeypatch.setattr(broker, "ROOM_WAIT_S", 0.3)
    monkeypatch.setattr(broker, "ROOM_LOOK_S", 0.05)
    started = time.monotonic()
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        ledger.begin("job", 0, redelivered=False)
    assert 0.3 < time.monotonic() - started < 3
    assert [record.message for record in caplog.records].count(broker.FULL_WARNING) == 1, "said once, not at each look"

    looks: list[float] = []

    def room_at_the_third_look(pause: float) -> None:
        looks.append(pause)
        full(len(looks) < 3)

    monkeypatch.setattr(broker.time, "sleep", room_at_the_third_look)
    assert ledger.begin("job", 0, redelivered=False).attempts == 1, "what was refused has changed nothing"
    assert len(looks) == 3
