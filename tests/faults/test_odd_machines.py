"""Machines that lack something say so in one line, with the remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from producer.errors import ProducerError
from producer.job.output_folder import DamagedFolderError, OutputFolder, state_folder
from producer.local.server import EmbeddedServer
from tests.faults.server import FaultyServer
from tests.processes import command
from tests.tools import missing, tool
from worker.broker import BrokerUnreachable, connect
from worker.settings import read_settings


def test_a_damaged_request(tmp_path: Path) -> None:
    """Before: a traceback."""
    folder = OutputFolder(tmp_path)
    folder.private.mkdir()
    for data in (b"", b"\0" * 100, b"{", b"[]"):
        folder.request_file.write_bytes(data)
        with pytest.raises(DamagedFolderError, match="remove it"):
            folder.request()


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(ProducerError, match="XDG_STATE_HOME"):
        state_folder("job")


def test_a_state_folder_that_cannot_be_made(environment: dict[str, str], tmp_path: Path) -> None:
    """Before: a traceback."""
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    told = command(
        {**environment, "XDG_STATE_HOME": str(in_the_way)}, "ocr-producer", "enqueue", tmp_path, "--job", "a"
    )
    assert told.returncode == 2 and told.stderr.count("\n") == 1 and str(in_the_way) in told.stderr, told.stderr


def test_a_worker_without_shared_memory(environment: dict[str, str]) -> None:
    """Before: thirty lines of Celery's, of which the last said "Read-only file system"."""
    if os.geteuid() != 0:
        missing("needs root for a mount of its own")
    inside = 'mount -t tmpfs -o ro tmpfs /dev/shm && exec "$0" -m worker.cli start'
    told = subprocess.run(
        [tool("unshare", "apt install util-linux"), "--mount", "sh", "-c", inside, sys.executable],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 1 and "mount a tmpfs there" in told.stderr and "Traceback" not in told.stderr, told.stderr


def test_a_long_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: "Address already in use", or a path cut off: a Unix socket's path ends at 107 bytes."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    server = EmbeddedServer(tmp_path / "server")
    try:
        server.start()
        assert len(os.fsencode(server.socket)) <= 107
    finally:
        server.stop()


def test_a_broker_with_too_few_connections(tmp_path: Path) -> None:
    server = FaultyServer(tmp_path / "redis")
    server.start()
    try:
        server.client.config_set("maxclients", "1")
        with pytest.raises(BrokerUnreachable, match="raise its maxclients"):
            connect(read_settings({"OCRFLEET_REDIS_URL": server.url}))
    finally:
        server.close()
