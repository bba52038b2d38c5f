"""A job begun with the version before goes on with this one: every page one record, none lost, none twice."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import redis

from producer.local.server import EmbeddedServer
from tests.old_job import HOME, restore
from tests.pictures import write_images
from tests.processes import WorkerProcess, command

OLD = Path(__file__).parent / "data" / "old_job"
PAGES = 6


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with the images of the old jobs."""
    write_images(tmp_path / "images", PAGES)
    return tmp_path


def place(kind: str, folder: Path, home: Path) -> None:
    """Put a job's files where that version kept them."""
    for source in (OLD / kind).glob("*.json*"):
        if source.name not in ("server.json", "broker.json"):
            target = folder / (".ocrfleet" if source.name == "request.json" else "") / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(source.read_text().replace(HOME, str(home)))


def check(results: Path, job: str) -> list[dict]:
    """Every page has one record, and it is fine."""
    records = [json.loads(line) for line in results.read_text().splitlines()]
    assert Counter(record["index"] for record in records) == Counter(range(PAGES))
    assert {(record["job"], record["status"], record["schema"]) for record in records} == {(job, "ok", 1)}
    assert all(record["boxes"] for record in records)
    return sorted(records, key=lambda record: record["index"])


@pytest.mark.parametrize("with_server", [True, False], ids=["with its server's data", "without"])
def test_a_run_goes_on(environment: dict[str, str], home: Path, with_server: bool) -> None:
    out = home / "out"
    place("run", out, home)
    if with_server:
        private = EmbeddedServer(out / ".ocrfleet" / "server")
        private.start()
        with redis.Redis.from_url(private.url) as client:
            restore(client, OLD / "run" / "server.json", home)
        private.stop()
    told = command(environment, "ocr-producer", "resume", out, "--quiet")
    assert told.returncode == 0, told.stderr
    records = check(out / "results.jsonl", "old-run")
    assert records[0]["worker"] == "old-machine:1523", "what was done stays done"
    job = json.loads((out / "job.json").read_text())
    assert (job["images"], job["ok"], job["images_this_run"]) == (PAGES, PAGES, PAGES - 1)


@pytest.mark.slow
def test_a_fleets_job_goes_on(environment: dict[str, str], client: redis.Redis, home: Path) -> None:
    place("fleet", home / "state" / "ocrfleet" / "old-fleet", home)
    restore(client, OLD / "fleet" / "broker.json", home)
    told = command(environment, "ocr-producer", "resume", "old-fleet", "--quiet")
    assert told.returncode == 0 and "6 images, 0 sent now, 2 done" in told.stderr, told.stderr
    worker = WorkerProcess(environment, home / "worker.log")
    try:
        told = command(environment, "ocr-producer", "collect", "old-fleet", "-o", home / "out", "--follow", "--quiet")
    finally:
        worker.stop()
    assert told.returncode == 0, told.stderr + worker.log.read_text()[-2000:]
    records = check(home / "out" / "results.jsonl", "old-fleet")
    assert {record["worker"].partition(":")[0] for record in records[:2]} == {"old-machine"}
    assert records[2]["attempts"] == 2, "its first worker was killed over it"
