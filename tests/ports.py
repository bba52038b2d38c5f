"""TCP ports for servers that tests start: never the same one in two of pytest-xdist's workers."""

from __future__ import annotations

import itertools
import os
import socket

# Below 32768, where Linux begins to give ports to outgoing connections: nobody takes one between asking and listening.
FIRST, PER_WORKER = 21_000, 500
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_numbers = itertools.count(os.getpid())


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    for _ in range(PER_WORKER):
        port = FIRST + _WORKER * PER_WORKER + next(_numbers) % PER_WORKER
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:  # another program's
                continue
            return port
    raise AssertionError(f"no free port in {PER_WORKER} from {FIRST + _WORKER * PER_WORKER}")
