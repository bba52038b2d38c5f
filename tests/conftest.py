"""What all tests share: a real server, started once, emptied before each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from producer.local.server import EmbeddedServer
from worker.ledger import Ledger
from worker.settings import Settings, read_settings


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A private Valkey server for the whole test session."""
    embedded = EmbeddedServer(tmp_path_factory.mktemp("server"))
    embedded.start()
    yield embedded
    embedded.stop()


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[redis.Redis]:
    """A connection to an empty server."""
    connection = redis.Redis.from_url(server.url)
    connection.flushall()
    yield connection
    connection.close()


@pytest.fixture
def set_full(client: redis.Redis) -> Iterator[Callable[[bool], None]]:
    """Fills the server's memory, or gives it room again."""

    def set_maxmemory(full: bool) -> None:
        client.config_set("maxmemory", "1mb" if full else "0")

    yield set_maxmemory
    set_maxmemory(False)


@pytest.fixture
def ledger(client: redis.Redis) -> Ledger:
    """A ledger on an empty server."""
    return Ledger(client, ttl_s=3600, max_attempts=3)


@pytest.fixture
def settings(server: EmbeddedServer, tmp_path: Path) -> Settings:
    """Settings that point at the test server and a spool of this test."""
    return replace(read_settings({}), redis_url=server.url, spool_dir=tmp_path / "spool")


@pytest.fixture
def environment(server: EmbeddedServer, tmp_path: Path) -> dict[str, str]:
    """Environment for our commands and workers in processes of their own."""
    return {
        **os.environ,
        "OCRFLEET_REDIS_URL": server.url,
        "OCRFLEET_SPOOL_DIR": str(tmp_path / "spool"),
        "OCRFLEET_PROFILE": "low",
        "OCRFLEET_NICE": "0",
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
