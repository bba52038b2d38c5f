"""Brokers that lose jobs are told from those that do not; a broker that starts late is waited for."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.faults.server import FaultyServer
from tests.processes import command
from worker.admission import shared_memory, unusable_pool
from worker.broker.connection import BrokerUnreachable, connect_within
from worker.broker.fitness import why_read_only, why_unfit
from worker.settings import read_settings


def test_what_is_fit() -> None:
    assert why_unfit({"redis_mode": "standalone", "maxmemory_policy": "noeviction"}) == ""
    assert "Cluster" in why_unfit({"redis_mode": "cluster"})
    assert "volatile-lru" in why_unfit({"maxmemory_policy": "volatile-lru"})
    assert why_read_only({"role": "master"}) == ""
    assert "10.0.0.1" in why_read_only({"role": "slave", "slave_read_only": 1, "master_host": "10.0.0.1"})


def test_pools() -> None:
    from celery.concurrency import prefork, solo, thread

    from worker.celery_ext.prefork import FleetPool

    for pool in (None, "prefork", "solo", FleetPool, prefork.TaskPool, solo.TaskPool):
        assert unusable_pool(pool) == ""
    for pool in ("threads", "gevent", thread.TaskPool):
        assert "process each" in unusable_pool(pool)
    assert shared_memory(1, None) == ""
    assert "4 images at once" in shared_memory(4, None)
    assert "8 images at once" in shared_memory(1, "8,1")
    assert "8 images at once" in shared_memory(1, (8, 1))


def test_a_broker_that_starts_late_is_waited_for(tmp_path: Path) -> None:
    """Before: ``ocr-worker start`` and ``beat`` ended at once when Redis started after them."""
    server = FaultyServer(tmp_path / "redis")
    settings = read_settings({"OCRFLEET_REDIS_URL": server.url})
    with pytest.raises(BrokerUnreachable):
        connect_within(settings, 0)
    late = threading.Timer(1.5, server.start)
    late.start()
    try:
        began = time.monotonic()
        connect_within(settings, 20).close()
        assert time.monotonic() - began > 1
    finally:
        late.join()
        server.close()


def test_the_option_is_there(environment: dict[str, str]) -> None:
    for name in ("start", "beat"):
        assert "--wait" in command(environment, "ocr-worker", name, "--help").stdout
