"""kill -9 of the service, in the middle of an upload and of a job: nothing accepted is lost or doubled."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from producer.sources.scan import file_uri
from producer.web.store import Store, WebJob
from tests.pictures import write_images
from tests.processes import WorkerProcess, wait_until
from tests.producer.records import ok, write_results
from tests.web_service import Served

pytestmark = pytest.mark.chaos


def pictures(folder: Path, count: int) -> list[Path]:
    """Large enough for the service to be killed while they are at work."""
    return write_images(folder, count, width=480, height=320)


@pytest.fixture
def served(environment: dict[str, str], client: object, tmp_path: Path) -> Iterator[Served]:
    service = Served(environment, tmp_path / "web", MAX_FILES="100", TRANSFER="redis")
    yield service
    service.stop()


@pytest.fixture
def worker(environment: dict[str, str], tmp_path: Path) -> Iterator[WorkerProcess]:
    process = WorkerProcess(environment, tmp_path / "worker.log")
    yield process
    process.stop()


def test_a_half_upload_leaves_nothing(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as line:
        line.sendall(
            b"POST /api/v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
            b"Content-Length: 4000000\r\n\r\n\xff\xd8\xff" + bytes(1_000_000)
        )
        incoming = served.folder / "incoming"
        wait_until(lambda: [*incoming.rglob(".part")], seconds=10, what="the upload to begin")
        served.kill()
    assert [*incoming.rglob(".part")]
    served.start()
    assert [*incoming.iterdir()] == []
    assert served.client().jobs() == []


def test_jobs_survive_and_each_page_has_one_record(served: Served, worker: WorkerProcess, tmp_path: Path) -> None:
    client = served.client()
    jobs = [client.submit(pictures(tmp_path / f"in{number}", 40), key=f"job {number}") for number in range(2)]
    for done in (5, 40):
        wait_until(
            lambda: sum(job.status()["ok"] for job in jobs) >= done,  # noqa: B023  # asked before the next round
            seconds=60,
            what=f"{done} pages",
        )
        served.kill()
        served.start()
    # The client's connection broke, it sends again: still the same job.
    assert client.submit(pictures(tmp_path / "in0", 40), key="job 0").name == jobs[0].name
    for job in jobs:
        assert job.wait(120)["ok"] == 40
        lines = (served.folder / "jobs" / job.name / "results.jsonl").read_text().splitlines()
        assert sorted(json.loads(line)["index"] for line in lines) == list(range(40))
    assert len(client.jobs()) == 2


def test_a_local_service_goes_on_where_it_was_killed(environment: dict[str, str], tmp_path: Path) -> None:
    """Its server and worker die with it; the next one has their data."""
    served = Served(environment, tmp_path / "local", "--local", MAX_FILES="100")
    try:
        job = served.client().submit(pictures(tmp_path / "in", 30))
        wait_until(lambda: job.status()["ok"] >= 3, seconds=90, what="three pages")
        served.kill()
        served.start()
        assert job.wait(120)["ok"] == 30
        assert sorted(record.index for record in job.results()) == list(range(30))
        assert served.stop() == 0
    finally:
        served.stop()


def test_it_stops_while_crops_are_made(environment: dict[str, str], client: object, tmp_path: Path) -> None:
    """Before: after the first signal it was there 20 minutes later, with its port closed: a thread cut pages up."""
    store = Store(tmp_path / "web")
    assert store.accept(store.new_upload(), "job", WebJob(created=1, finished=time.time(), state="done"))
    folder, [picture] = store.folder("job"), pictures(store.uploads("job"), 1)
    write_results(folder.root, (ok(index) for index in range(50_000)))
    line = {"image": "a.jpg", "uri": file_uri(picture), "page": 0}
    folder.manifest.write_text("".join(json.dumps(line | {"index": index}) + "\n" for index in range(50_000)))
    served = Served(environment, tmp_path / "web")
    lines = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(2)]
    for line_of in lines:
        line_of.sendall(b"GET /api/v1/jobs/job/results?format=crops HTTP/1.1\r\nHost: localhost\r\n\r\n")
    exports = served.folder / "exports"
    wait_until(lambda: len({path.parts[-4] for path in exports.rglob("*.jpg")}) == 2, seconds=60, what="first crops")
    those = psutil.Process(served.process.pid).children(recursive=True)
    assert sum("crop_process" in " ".join(one.cmdline()) for one in those) == 2
    begun = time.monotonic()
    assert served.stop() == 0 and time.monotonic() - begun < 10
    assert all(line_of.recv(12) == b"HTTP/1.1 503" for line_of in lines)
    wait_until(lambda: not any(one.is_running() for one in those), seconds=5, what="what cuts to end")
    assert "Traceback" not in served.log.read_text()


def test_threads_that_go_on_keep_no_service() -> None:
    program = """
import threading, time
from producer.web.server import _end_within
threading.Thread(target=time.sleep, args=(600,)).start()
_end_within(0.2, 0)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 0
