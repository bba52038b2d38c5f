"""What all tests share: a real server, started once, emptied before each test. And what pytest-xdist must know."""

from __future__ import annotations

import gc
import os
import resource
import signal
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import redis

from detector import memory
from producer.local.server import EmbeddedServer
from tests.tiers import in_good_order, is_quick
from worker.ledger import Ledger
from worker.settings import Settings, read_settings
from worker.settings import settings as process_settings

# A pool of threads in each of our processes, times the processes of two tests at once, only wait for each other.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}


def pytest_configure(config: pytest.Config) -> None:
    """Before any library counts the cores."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.update(ONE_THREAD)
    # Started in the background (`pytest &`), a shell has us ignore Ctrl-C, and with us the programs we interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What imports and collection make stays: looking for garbage in it took a third of their time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        gc.set_threshold(10_000, 20, 20)  # looked for as often as by itself it was a twentieth of a test run


@pytest.hookimpl(tryfirst=True)  # before pytest -m chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the quick tests, if that is asked; order the files."""
    if "quick" in config.option.markexpr:
        for item in items:
            if is_quick(item):
                item.add_marker(pytest.mark.quick)
    if unseen := [item.nodeid for item in items if item.get_closest_marker("serial") and not says_serial(item.path)]:
        raise pytest.UsageError(f"`make serial` looks for mark.serial in files, and misses {unseen[0]}")
    if "PYTEST_XDIST_WORKER" in os.environ:
        items[:] = in_good_order(items)


@cache
def says_serial(file: Path) -> bool:
    """Whether the Makefile's search finds this file."""
    return "mark.serial" in file.read_text()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither the user's cache (a tune file there would choose our runtime), nor that of another xdist worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        process_settings.cache_clear()  # what collecting tests read of the user's: a model that was fetched there
        yield


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
def environment(server: EmbeddedServer, client: redis.Redis, tmp_path: Path) -> dict[str, str]:
    """Environment for our commands and workers in processes of their own; the server is empty (``client``)."""
    return {
        **os.environ,
        "OCRFLEET_REDIS_URL": server.url,
        "OCRFLEET_SPOOL_DIR": str(tmp_path / "spool"),
        "OCRFLEET_PROFILE": "low",
        "OCRFLEET_NICE": "0",
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }


@pytest.fixture(autouse=True)
def memory_limit_ends_with_the_test() -> Iterator[None]:
    """Workers and commands limit the memory of their process (`limit_memory`); called in this one, that must not stay.

    Without this the tests after such a one have what it left: 32 MiB could not be had in one run.
    """
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    yield
    resource.setrlimit(resource.RLIMIT_DATA, limits)
    memory._limit_in_force = None
