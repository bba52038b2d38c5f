"""A server that may be killed, and a fleet around it, for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.rig import Rig
from tests.faults.server import FaultyServer
from tests.tools import tool


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A fleet without workers yet, and its server running."""
    binary = Path(tool("redis-server", "apt-get install redis-server"))  # Debian's: a hub's
    server = FaultyServer(tmp_path / "redis", binary=binary, users=True)
    server.start()
    made = Rig(tmp_path, server)
    yield made
    print(made.logs())
    made.close()
    server.close()
