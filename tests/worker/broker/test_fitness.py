"""Brokers that lose jobs are told from those that do not; a broker that starts late is waited for."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.faults.server import FaultyServer
from tests.ports import free_port
from tests.processes import command
from tests.redis_users import server_with_users
from worker.admission import shared_memory, unusable_pool
from worker.broker import fitness
from worker.broker.connection import BrokerUnreachable, connect, connect_within
from worker.broker.fitness import who_gets_in, why_read_only, why_unfit
from worker.cli import main
from worker.cli import start as start_module
from worker.settings import Settings, read_settings


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


def test_who_gets_in_without_a_password(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what Redis does, not by the address: a password in it keeps nobody out while the default user may come."""
    port = free_port()
    with server_with_users(tmp_path, port=port) as hub:

        def who(url: str) -> str:
            with connect(replace(settings, redis_url=url)) as client:
                return who_gets_in(client, url)

        tcp, socket = f"redis://worker:of-the-worker@127.0.0.1:{port}/0", hub.url("worker")
        monkeypatch.setattr(fitness, "others_reach", lambda socket: True)
        assert who(tcp) == who(socket) == who(f"redis://127.0.0.1:{port}/0?username=hub&password=of-the-hub") == ""
        hub.client("admin").execute_command("ACL", "SETUSER", "default", "on", "nopass", "~*", "+@all")
        assert who(tcp) == who(f"redis://127.0.0.1:{port}/0") == "every user of this machine"
        assert who(socket) == "who may reach its socket"
        monkeypatch.setattr(fitness, "is_local", lambda url: False)
        assert who(tcp) == "whoever reaches its port"
        monkeypatch.undo()
        assert who(socket) == who(f"unix://{hub.socket}") == "", "it lies in a folder of this user alone"


def test_start_says_who_may_have_it_open_files(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before: not a word, and another user read with `file:///home/me/...` what was 0600."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(start_module, "replace_by_celery", lambda *words: None)

    def said() -> list[str]:
        done = CliRunner().invoke(main, ["start"])
        assert done.exit_code == 0, done.output
        return [line for line in done.stderr.splitlines() if "can have this worker open" in line]

    assert said() == [], "a private server's socket"
    monkeypatch.setattr(fitness, "others_reach", lambda socket: True)
    [line] = said()
    assert all(remedy in line for remedy in ("password", "OCRFLEET_ROOTS", "ocr-producer run"))
    monkeypatch.setenv("OCRFLEET_ROOTS", str(tmp_path))
    assert said() == []
