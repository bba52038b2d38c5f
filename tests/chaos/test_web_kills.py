"""kill -9 of the service, in the middle of an upload and of a job: nothing accepted is lost or doubled."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pictures import write_images
from tests.processes import WorkerProcess, wait_until
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
