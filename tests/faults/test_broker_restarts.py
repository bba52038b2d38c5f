"""Redis goes away and comes back: every worker lives on, as the same process, and every page has one record."""

from __future__ import annotations

import os
import time

import psutil
import pytest

from tests.faults.rig import JOB, Rig
from tests.processes import wait_until

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("how", ["kill", "shutdown"])
def test_busy_workers_outlive_a_restart(rig: Rig, how: str) -> None:
    """Before: 9 of 9 main processes died (AttributeError: NoneType has no attribute hostname): an acknowledgement
    over the connection that Celery had closed."""
    count = 60
    workers = [rig.start_worker() for _ in range(2)]
    assert rig.command("ocr-producer", "enqueue", rig.images(count), "--job", JOB, "--quiet").returncode == 0
    collector = rig.begin("collect", JOB, "-o", rig.out, "--follow", "--quiet", "--no-report")
    rig.wait_done(3, seconds=90)
    wait_until(rig.indices, seconds=30, what="the collector")  # which must have met the broker before it goes
    getattr(rig.server, how)()
    time.sleep(1.0)
    rig.server.start()
    assert collector.wait(90) == 0, collector.stderr and collector.stderr.read()
    assert [worker.alive for worker in workers] == [True, True]
    assert rig.indices() == dict.fromkeys(range(count), 1)
    rig.command("ocr-producer", "forget", JOB, "--yes")
    assert rig.command("ocr-producer", "enqueue", rig.images(6), "--job", JOB, "--quiet").returncode == 0
    rig.wait_done(6, seconds=30)  # by the same processes


# CI: once; `make faults`: SHUTDOWN too.
IDLE = ["kill", "shutdown"] if os.environ.get("OCRFLEET_FAULTS_STOP_S") else ["kill"]


@pytest.mark.parametrize("how", IDLE)
def test_idle_workers_outlive_a_restart(rig: Rig, how: str) -> None:
    workers = [rig.start_worker() for _ in range(2)]
    assert rig.command("ocr-producer", "enqueue", rig.images(3), "--job", JOB, "--quiet").returncode == 0
    rig.wait_done(3, seconds=90)
    getattr(rig.server, how)()
    time.sleep(3.0)
    rig.server.start()
    time.sleep(8.0)
    assert [worker.alive for worker in workers] == [True, True]
    rig.command("ocr-producer", "forget", JOB, "--yes")
    assert rig.command("ocr-producer", "enqueue", rig.images(3), "--job", JOB, "--quiet").returncode == 0
    rig.wait_done(3, seconds=30)


def test_a_long_page_costs_no_worker(rig: Rig) -> None:
    """Before: after a page of more than 60 to 90 s the main process waited for a broadcast, for good.

    Nor a core while it runs: the answer to SUBSCRIBE, which nobody reads meanwhile, took all of one.
    """
    worker = rig.start_worker("-I", "tests.faults.attentive")
    assert rig.command("ocr-producer", "enqueue", rig.images(3), "--job", JOB, "--quiet").returncode == 0
    rig.wait_done(3, seconds=60)
    assert "missed" not in worker.log.read_text() and worker.alive
    used = psutil.Process(worker.process.pid).cpu_times()
    assert used.user + used.system < 4, "0.7 s to start; before, 8 s more of the first page's 8 s"
