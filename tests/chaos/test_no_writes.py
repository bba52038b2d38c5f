"""Redis stops taking writes in the middle of a job: the worker waits, whatever it holds, and nothing is lost."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from producer.local.server import EmbeddedServer
from tests.pictures import write_images
from tests.processes import WorkerProcess, command, wait_until
from worker.broker import connect
from worker.ledger import JobStatus, Ledger, patient
from worker.ledger.patient import PatientLedger
from worker.messages import ImageTask
from worker.settings import Settings

COUNT = 50  # the worker does five while it is told
WAITING = re.compile(": waiting |Trying again in")  # Celery's own words where even PING is refused
NOISE = re.compile("Traceback|DeprecationWarning")


@pytest.fixture(params=["full", "disk", "too few replicas", "replica"])
def refusing(
    request: pytest.FixtureRequest, server: EmbeddedServer, client: redis.Redis, set_full: Callable[[bool], None]
) -> Iterator[Callable[[bool], None]]:
    """Makes the server refuse writes, or take them again."""
    in_the_way = server.data / "dump.rdb"

    def set_refusing(yes: bool) -> None:
        match request.param:
            case "disk" if yes and not in_the_way.is_dir():
                in_the_way.unlink(missing_ok=True)  # a test before may have had the server save
                in_the_way.mkdir()  # saving fails; from then on even PING is refused
                client.config_set("save", "3600 1")
                client.bgsave()
                wait_until(
                    lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", seconds=5, what="MISCONF"
                )
            case "disk" if not yes and in_the_way.is_dir():
                client.config_set("save", "")
                in_the_way.rmdir()
            case "full":
                set_full(yes)
            case "too few replicas":
                client.config_set("min-replicas-to-write", "1" if yes else "0")
            case "replica":
                client.execute_command("REPLICAOF", *(("127.0.0.1", "1") if yes else ("NO", "ONE")))

    yield set_refusing
    set_refusing(False)


@pytest.mark.chaos
def test_worker_and_collector_outlive_it(
    environment: dict[str, str],
    tmp_path: Path,
    ledger: Ledger,
    refusing: Callable[[bool], None],
    request: pytest.FixtureRequest,
) -> None:
    """A collector waits for a failover, and empties a full memory; a full disk is somebody's to see to."""
    write_images(tmp_path / "in", COUNT)
    log, hurry = tmp_path / "worker.log", tmp_path / "hurry"
    # .7 s a page: on a busy machine all were done before the test had looked.
    worker = WorkerProcess({**environment, "OCRFLEET_FAULTS_HURRY": str(hurry)}, log, "-I", "tests.faults.slow")
    collector, collected = None, tmp_path / "out" / "results.jsonl"

    def job() -> JobStatus:
        status = ledger.status("job")
        assert status is not None
        return status

    try:
        fed = command(environment, "ocr-producer", "enqueue", tmp_path / "in", "--job", "job", "--quiet")
        assert fed.returncode == 0, fed.stderr
        collector = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "producer.cli",
                "collect",
                "job",
                "-o",
                tmp_path / "out",
                "--follow",
                "-q",
                "--no-report",
            ],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: collected.is_file() and job().ok > 3, seconds=60, what="some records")
        refusing(True)
        wait_until(lambda: WAITING.search(log.read_text()), seconds=20, what="the worker to notice")
        time.sleep(6)  # kombu's look for expired messages, every 5 s, writes too
        before = job().done
        time.sleep(1)
        assert before == job().done < COUNT, "the test is to stop it in the middle"
        hurry.touch()
        refusing(False)
        wait_until(lambda: job().finished, seconds=60, what="the rest")
        assert (job().ok, job().failed) == (COUNT, 0)
        assert worker.alive
        said = collector.communicate(timeout=60)[1]
        if "[disk]" in request.node.name:
            assert collector.returncode == 3 and "make room there" in said
        else:
            assert collector.returncode == 0, f"before: it ended as soon as Redis took no writes\n{said}"
            assert len(collected.read_text().splitlines()) == COUNT
    finally:
        if collector:
            collector.kill()
        worker.stop()
    assert not NOISE.search(log.read_text()), log.read_text()[-4000:]


@pytest.mark.chaos
def test_worker_started_meanwhile_waits_too(
    environment: dict[str, str], tmp_path: Path, ledger: Ledger, refusing: Callable[[bool], None]
) -> None:
    write_images(tmp_path / "in", 3)
    fed = command(environment, "ocr-producer", "enqueue", tmp_path / "in", "--job", "job", "--quiet")
    assert fed.returncode == 0, fed.stderr
    refusing(True)
    log = tmp_path / "worker.log"
    worker = WorkerProcess(environment, log)
    try:
        wait_until(lambda: WAITING.search(log.read_text()), seconds=30, what="the worker to notice")
        assert worker.alive
        refusing(False)
        wait_until(lambda: (status := ledger.status("job")) and status.ok == 3, seconds=30, what="the records")
    finally:
        worker.stop()
    assert not NOISE.search(log.read_text()), log.read_text()[-4000:]


def test_it_is_there_all_the_same(settings: Settings, refusing: Callable[[bool], None]) -> None:
    refusing(True)
    assert connect(settings).info("server"), "not `is it running?`"


def test_a_step_waits_but_not_for_ever(
    client: redis.Redis,
    refusing: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = PatientLedger(client, ttl_s=60)
    ledger.create("job", 1, {})
    ledger.feed([ImageTask(job="job", index=0, image="a", uri="file:///a")])
    refusing(True)
    monkeypatch.setattr(patient, "WRITE_WAIT_S", 0.3)
    monkeypatch.setattr(patient, "WRITE_LOOK_S", 0.05)
    started = time.monotonic()
    with pytest.raises(redis.ResponseError):
        ledger.begin("job", 0, redelivered=False)
    assert 0.3 < time.monotonic() - started < 3
    said = [record.message for record in caplog.records if WAITING.search(record.message)]
    assert len(said) == 1, "once, not at each look"

    looks: list[float] = []

    def writes_at_the_third_look(pause: float) -> None:
        looks.append(pause)
        refusing(len(looks) < 3)

    monkeypatch.setattr(patient, "time", SimpleNamespace(monotonic=time.monotonic, sleep=writes_at_the_third_look))
    assert ledger.begin("job", 0, redelivered=False).attempts == 1, "what was refused has changed nothing"
    assert len(looks) == 3


def test_other_refusals_are_not_waited_for(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient, "time", SimpleNamespace(monotonic=time.monotonic))  # no sleep
    client.set("ocrfleet:job:job", "not a hash")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        PatientLedger(client, ttl_s=60).begin("job", 0, redelivered=False)
