"""Celery's remote control: a worker answers who looks, and obeys nobody who would stop or swell it."""

from __future__ import annotations

import time
from pathlib import Path

from tests.processes import WorkerProcess, wait_until
from worker.app import app_for
from worker.settings import Settings


def test_a_worker_cannot_be_shut_down_or_grown(environment: dict[str, str], settings: Settings, tmp_path: Path) -> None:
    """Before: the password of the `worker` user was enough to stop every worker of the fleet."""
    worker = WorkerProcess(environment, tmp_path / "worker.log")
    control = app_for(settings).control
    try:
        wait_until(lambda: control.ping(timeout=1.0), seconds=60, what="the worker to answer")
        for command in ("shutdown", "pool_grow", "pool_restart", "add_consumer", "rate_limit"):
            replies = control.broadcast(command, reply=True, timeout=1.0)
            assert not any("ok" in answer for reply in replies or [] for answer in reply.values()), command
        time.sleep(2)
        assert worker.alive and control.ping(timeout=2.0)
        pool = next(iter(control.inspect(timeout=2.0).stats().values()))["pool"]
        assert pool["max-concurrency"] == 1
    finally:
        assert worker.stop() == 0
