"""Redis and producer on one machine, workers on others, no shared folder: a cable is pulled, rates are measured."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.fleet.machines import Lab, Machine, lab
from tests.pictures import write_images
from tests.processes import wait_until
from tests.tools import tool
from worker.ledger import Ledger
from worker.ops import worker_registry

PASSWORD = "between-machines"
PORT = 6379
IMAGES = 140
# Cheap machines: a quarter of a core each, so that the host has room for all of them and the rates mean something.
CORES, MEMORY_MB = 0.25, 400

pytestmark = [pytest.mark.slow, pytest.mark.timeout(560)]


class Fleet:
    """The hub, and workers that come and go."""

    def __init__(self, made: Lab, folder: Path) -> None:
        self.lab, self.folder = made, folder
        # Beside the disk that workers see empty: their logs' folder.
        self.logs = folder.with_name(f"{folder.name}-logs")
        self.logs.mkdir()
        self.hub = made.add("hub", memory_mb=1000, cores=1.0)
        socket = folder / "redis.sock"
        options = {
            "bind": self.hub.address, "port": PORT, "unixsocket": socket, "requirepass": PASSWORD, "appendonly": "yes",
            "save": "", "dir": folder, "maxmemory-policy": "noeviction",
        }  # fmt: skip
        arguments = [str(text) for name, value in options.items() for text in (f"--{name}", value)]
        server = tool("redis-server", "apt-get install redis-server")
        self.hub.start([server, *arguments], dict(os.environ), self.logs / "redis.log")
        self.client = redis.Redis(unix_socket_path=str(socket), password=PASSWORD)
        wait_until(lambda: socket.exists() and self.client.ping(), seconds=10, what="redis-server on the hub")
        self.ledger = Ledger(self.client, ttl_s=3600)

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "OCRFLEET_REDIS_URL": f"redis://:{PASSWORD}@{self.hub.address}:{PORT}/0",
            "OCRFLEET_SPOOL_DIR": str(self.folder / "spool"),
            "OCRFLEET_ROOTS": str(self.folder / "spool"),
            "OCRFLEET_PROFILE": "low",
            "OCRFLEET_LIMIT_SIDE": "480",
            "OCRFLEET_NICE": "0",
            "OCRFLEET_LEASE_S": "8",  # the lost machine's page waits for it, and the test with it
            "XDG_STATE_HOME": str(self.folder / "state"),
            "MALLOC_ARENA_MAX": "2",
        }

    def workers(self, *names: str) -> list[Machine]:
        """A machine each, with a worker that has reported."""
        made = [self.lab.add(name, memory_mb=MEMORY_MB, cores=CORES, disk=self.folder) for name in names]
        for machine in made:
            command = [sys.executable, "-m", "celery", "-A", "worker.app", "worker"]
            machine.start(command, self.environment(), self.logs / f"{machine.name}.log")
        wait_until(lambda: set(names) <= self.reported(), seconds=90, what=f"{names} to report")
        return made

    def reported(self) -> set[str]:
        """Names of the machines whose worker has reported."""
        return {known.partition(":")[0] for known in worker_registry.workers(self.client)}

    def producer(self, *arguments: str | Path) -> int:
        """A command of the producer on the hub, to its end."""
        process = self.start_producer(*arguments)
        return process.wait(400)

    def start_producer(self, *arguments: str | Path):  # type: ignore[no-untyped-def]
        command = [sys.executable, "-m", "producer.cli", *arguments]
        return self.hub.start(command, self.environment(), self.logs / "producer.log")

    def done(self, job: str) -> int:
        status = self.ledger.status(job)
        return status.done if status else 0

    def rate(self, job: str, images: Path) -> float:
        """Images a second of a whole job, without its first and last tenth (starting, and one worker left alone)."""
        process = self.start_producer("enqueue", images, "--job", job, "--transfer", "redis", "--watch", "-q")
        total = len(list(images.iterdir()))
        first, last = total // 10, total - total // 10
        wait_until(lambda: self.done(job) >= first, seconds=120, what=f"{job} to begin")
        began, done_then = time.monotonic(), self.done(job)
        wait_until(lambda: self.done(job) >= last, seconds=200, what=f"{job} to get on")
        rate = (self.done(job) - done_then) / (time.monotonic() - began)
        assert process.wait(60) == 0
        return rate


SIZE = {"width": 480, "height": 320}  # so that the network, not Redis, is what takes time


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with lab() as made:
        yield Fleet(made, tmp_path)


def held_by_two(ledger: Ledger, job: str, two: Machine) -> set[int]:
    """The images in hand while each worker has one; then the machine stands still: it could end its own meanwhile."""
    two.signal(signal.SIGSTOP)
    time.sleep(0.1)  # what it said is heard by then
    if len(held := ledger.leased(job)) == 2:
        return held
    two.signal(signal.SIGCONT)
    return set()


def test_cable_pulled_machine_added(fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "many", IMAGES, **SIZE)
    _, two = fleet.workers("one", "two")
    feeding = fleet.start_producer(
        "enqueue", tmp_path / "many", "--job", "many", "--transfer", "redis", "--watch", "-q"
    )
    wait_until(lambda: fleet.done("many") >= 30, seconds=120, what="a fifth of the job")
    held: set[int] = set()

    def both_at_work() -> bool:
        held.update(held_by_two(fleet.ledger, "many", two))
        return bool(held)

    wait_until(both_at_work, seconds=20, what="both workers to hold an image")
    two.cut()
    two.signal(signal.SIGCONT)
    cut_at = time.monotonic()
    fleet.workers("three")
    wait_until(lambda: not held & set(fleet.ledger.in_flight("many")), seconds=150, what="the cut image to be redone")
    redone_s = time.monotonic() - cut_at
    assert feeding.wait(200) == 0, (fleet.logs / "producer.log").read_text()[-2000:]
    assert fleet.producer("collect", "many", "-o", tmp_path / "out", "-q", "--no-report") == 0

    records = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert Counter(record["index"] for record in records) == Counter(range(IMAGES))
    assert {record["status"] for record in records} == {"ok"}
    by_machine = Counter(record["worker"].partition(":")[0] for record in records)
    assert set(by_machine) == {"one", "two", "three"}
    again = [record for record in records if record["attempts"] > 1]
    assert {record["index"] for record in again} <= held and len(again) == 1
    assert list(fleet.client.scan_iter(match="ocrfleet:blob:*")) == []
    assert [machine.limits.oom_kills for machine in fleet.lab.machines] == [0, 0, 0, 0]
    with capsys.disabled():
        peaks = ", ".join(f"{machine.name} {machine.limits.peak_mb:.0f} MB" for machine in fleet.lab.machines)
        print(
            f"\nthree machines: the cut machine's image was redone after {redone_s:.0f} s; "
            f"records by machine {dict(by_machine)}; cgroup peaks {peaks}"
        )
    assert redone_s < 90


@pytest.mark.serial
def test_two_machines_are_twice_as_fast(fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "warm", 6, **SIZE)
    write_images(tmp_path / "some", 50, **SIZE)
    write_images(tmp_path / "few", 26, **SIZE)
    one, _ = fleet.workers("one", "two")
    fleet.rate("warm-up", tmp_path / "warm")

    double = fleet.rate("together", tmp_path / "some")
    one.stop()
    single = fleet.rate("alone", tmp_path / "few")

    with capsys.disabled():
        print(f"\n1 worker {single:.2f}/s, 2 workers {double:.2f}/s = {double / single:.2f}x")
    assert double / single >= 1.8, (single, double)
