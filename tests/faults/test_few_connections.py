"""Small managed plans allow twenty or thirty connections: a worker takes four, also after Redis was away."""

from __future__ import annotations

from contextlib import suppress

import psutil
import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from tests.faults.rig import JOB, Rig
from tests.processes import WorkerProcess, wait_until
from worker.app import CLEANUP_TASK, FleetApp, configuration
from worker.broker.connection import CONNECTIONS_OF_A_WORKER
from worker.ops.cleanup import REPORTS_KEY
from worker.settings import read_settings

pytestmark = pytest.mark.chaos


def connections(rig: Rig, worker: WorkerProcess) -> list[str]:
    """What the worker's connections last said, as the server lists them."""
    ports = {
        connection.laddr.port
        for process in (psutil.Process(worker.process.pid), *worker.children())
        for connection in process.net_connections("tcp")
    }
    return sorted(
        each["cmd"] for each in rig.server.client.client_list() if int(each["addr"].rpartition(":")[2]) in ports
    )


def answers(fleet: Celery) -> bool:
    """Whether a worker answers a ping. This process, too, must notice first that the server was away."""
    with suppress(ConnectionError, redis.ConnectionError, OperationalError):
        return bool(fleet.control.inspect(timeout=1.0).ping())
    return False


def test_a_worker_takes_four_connections_and_is_still_all_ears(rig: Rig) -> None:
    """Before: nine. It runs pages, hears what is broadcast, answers and tells Flower, all over the same four."""
    worker = rig.start_worker()
    fleet = FleetApp(set_as_current=False)  # not the app that other tests use, with its pool of connections
    fleet.conf.update(configuration(read_settings(rig.environment_of("hub"))))
    broadcast = fleet.conf.beat_schedule["cleanup"]["options"]
    images = rig.images(3)
    for restart in (False, True):
        if restart:
            rig.server.kill()
            rig.server.start()
        assert rig.command("ocr-producer", "enqueue", images, "--job", JOB, "--quiet").returncode == 0
        rig.wait_done(3, seconds=90)
        rig.command("ocr-producer", "forget", JOB, "--yes")
        wait_until(lambda: answers(fleet), seconds=20, what="an answer to a ping")
        rig.server.client.delete(REPORTS_KEY)
        fleet.send_task(CLEANUP_TASK, **broadcast)
        wait_until(lambda: rig.server.client.exists(REPORTS_KEY), seconds=20, what="the cleanup")
        wait_until(
            lambda: len(connections(rig, worker)) == CONNECTIONS_OF_A_WORKER,
            seconds=10,
            what=f"{CONNECTIONS_OF_A_WORKER} connections, not {connections(rig, worker)}",
        )
    assert worker.alive
