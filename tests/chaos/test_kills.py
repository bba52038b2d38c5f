"""kill -9 of everything that can be killed: at the end there is exactly one record per image."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis

from tests.pictures import write_images
from tests.processes import WorkerProcess, command, wait_until
from worker.broker import queue
from worker.ledger import Ledger
from worker.process_identity import identity
from worker.settings import read_settings
from worker.storage.held_copies import held_copy, held_prefix
from worker.storage.spool import open_spool

pytestmark = pytest.mark.chaos

COUNT = 12


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "in", COUNT, width=480, height=320)  # large enough to be met at work
    return tmp_path / "in"


@pytest.fixture
def workers(environment: dict[str, str], tmp_path: Path) -> Iterator[list[WorkerProcess]]:
    """Workers started by the test; stopped at its end, whatever it did to them."""
    started: list[WorkerProcess] = []
    yield started
    for worker in started:
        worker.stop()
    # Shown by pytest when the test failed.
    print((tmp_path / "worker.log").read_text(errors="replace")[-4000:] if (tmp_path / "worker.log").exists() else "")


def records(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def assert_one_record_each(out: Path, count: int = COUNT) -> None:
    assert Counter(record["index"] for record in records(out)) == Counter(range(count))


def enqueue_and_collect(environment: dict[str, str], images: Path, out: Path) -> subprocess.Popen[str]:
    """A producer that feeds the job; then one that collects it to the end, returned running."""
    fed = command(environment, "ocr-producer", "enqueue", images, "--job", "chaos", "--quiet")
    assert fed.returncode == 0, fed.stderr
    return subprocess.Popen(
        [sys.executable, "-m", "producer.cli", "collect", "chaos", "-o", out, "--follow", "--quiet", "--no-report"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def running(ledger: Ledger) -> bool:
    return bool(ledger.leased("chaos"))


def stopped_with(worker: WorkerProcess, copies: Callable[[], set[Path]]) -> bool:
    """Stop the child, if it still has its page then; else it goes on."""
    for child in worker.children():
        child.suspend()
    if not copies():
        for child in worker.children():
            child.resume()
    return bool(copies())


def test_worker_child_killed_mid_image(
    environment: dict[str, str], images: Path, tmp_path: Path, workers: list[WorkerProcess]
) -> None:
    """The copy of its page goes too. Before: it lay in the spool for a day, where a few such pages filled it."""
    archive = shutil.make_archive(str(tmp_path / "images"), "zip", images)
    spool = read_settings(environment).spool
    open_spool(spool)
    with held_copy(spool, ".jpg") as of_another:
        collector = enqueue_and_collect(environment, Path(archive), tmp_path / "out")
        workers.append(WorkerProcess(environment, tmp_path / "worker.log"))

        def copies() -> set[Path]:
            return set(spool.glob("*-held-*")) - {of_another}

        wait_until(lambda: copies() and stopped_with(workers[0], copies), seconds=60, what="a page to be read")
        (copy,) = copies()
        workers[0].kill_child()
        wait_until(lambda: not copy.exists(), seconds=10, what="its copy to go")
        assert of_another.exists()
    assert collector.wait(120) == 0, collector.stderr
    assert_one_record_each(tmp_path / "out")
    assert workers[0].alive, "the Celery main process must survive its child"
    assert max(record["attempts"] for record in records(tmp_path / "out")) == 2  # type: ignore[type-var]


def test_celery_main_process_killed(
    environment: dict[str, str],
    images: Path,
    tmp_path: Path,
    ledger: Ledger,
    client: redis.Redis,
    workers: list[WorkerProcess],
) -> None:
    """Its successor on the same machine gives its page back: nobody waits for the lease, which here lasts an hour.

    The second one is killed over a page that it took and did not begin, on which there is no lease: it waited as long.
    """
    environment |= {"OCRFLEET_LEASE_S": "3600"}
    spool = read_settings(environment).spool
    open_spool(spool)
    left = spool / f"{held_prefix()}of-one-killed-before.jpg"
    left.touch()
    collector = enqueue_and_collect(environment, images, tmp_path / "out")
    workers.append(WorkerProcess(environment, tmp_path / "worker.log"))
    wait_until(lambda: running(ledger), seconds=60, what="a first image to run")
    assert not left.exists()
    orphans = workers[0].children()
    workers[0].kill_main()
    wait_until(
        lambda: not any(child.is_running() and child.status() != "zombie" for child in orphans),
        seconds=5,
        what="the child to die with its main process",
    )
    workers.append(
        WorkerProcess(environment, tmp_path / "worker.log", "-n", "second@%h", "-I", "tests.chaos.never_begins")
    )
    took = f'"{identity(workers[1].process.pid)}"'.encode()
    wait_until(lambda: any(took in raw for raw in client.hvals(queue.UNACKED)), seconds=60, what="a page to be taken")
    workers[1].kill_main()
    workers.append(WorkerProcess(environment, tmp_path / "worker.log", "-n", "third@%h"))
    assert collector.wait(60) == 0, collector.stderr
    assert client.hlen(queue.UNACKED) == 0, "what the dead had taken is removed, or it would be delivered again"
    assert_one_record_each(tmp_path / "out")


def test_poison_ends_as_one_failed_record(
    environment: dict[str, str], images: Path, tmp_path: Path, client: redis.Redis, workers: list[WorkerProcess]
) -> None:
    environment |= {"OCRFLEET_MAX_ATTEMPTS": "2"}
    collector = enqueue_and_collect(environment, images, tmp_path / "out")
    workers.append(WorkerProcess(environment, tmp_path / "worker.log", "-I", "tests.chaos.poison"))
    assert collector.wait(180) == 1, "exit code 1: finished, some images failed"
    assert_one_record_each(tmp_path / "out")
    failed = [record for record in records(tmp_path / "out") if record["status"] == "failed"]
    assert [(record["image"], record["attempts"]) for record in failed] == [("image-0003.jpg", 2)]
    assert failed[0]["error"]["type"] == "WorkerLost"  # type: ignore[index]
    assert client.xlen("ocrfleet:dead") == 1
    listed = command(environment, "ocr-worker", "deadletters").stdout.splitlines()
    assert len(listed) == 1 and "image-0003.jpg" in listed[0] and "2 tries" in listed[0]
    assert workers[0].alive
    assert sum(queue.depth(client)) == 0, "nothing may be left on the queue"


def test_run_killed_then_resumed(environment: dict[str, str], images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = subprocess.Popen(
        [sys.executable, "-m", "producer.cli", "run", images, "-o", out, "--quiet", "--no-report"],
        env=environment,
        start_new_session=True,
    )
    wait_until(
        lambda: (out / "results.jsonl").exists() and (out / "results.jsonl").stat().st_size,
        seconds=60,
        what="a first record on disk",
    )
    family = psutil.Process(run.pid).children(recursive=True)
    assert len(family) >= 3, "server, worker and its child"
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == [], "nothing of a killed run may live on"
    before = len(records(out))
    assert before < COUNT, "the test came too late to prove anything"
    resumed = command(environment, "ocr-producer", "resume", out, "--quiet")
    assert resumed.returncode == 0, resumed.stderr
    assert_one_record_each(out)
    again = command(environment, "ocr-producer", "resume", out, "--quiet")
    assert again.returncode == 0, again.stderr
    assert_one_record_each(out)
