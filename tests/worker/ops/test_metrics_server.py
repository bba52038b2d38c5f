"""A web site whose name was made to mean 127.0.0.1 reads no metrics."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry

from worker.ops.metrics_server import MetricsServer


@contextmanager
def listening(address: str) -> Iterator[int]:
    server = MetricsServer(address, 0, CollectorRegistry())
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("address", "host", "status"),
    [
        ("127.0.0.1", "evil.example", 421),
        ("127.0.0.1", "evil.example:9540", 421),
        ("127.0.0.1", "", 421),
        ("127.0.0.1", "localhost:9540", 200),
        ("127.0.0.1", "[::1]:9540", 200),
        ("127.0.0.1", None, 200),
        ("0.0.0.0", "exporter:9540", 200),  # compose and Kubernetes ask by the service's name
    ],
)
def test_who_asks_by_another_name_on_this_machine_is_told_nothing(address: str, host: str | None, status: int) -> None:
    """Before: names of workers, counts and memory."""
    with listening(address) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.putrequest("GET", "/metrics", skip_host=True)
        if host is not None:
            connection.putheader("Host", host)
        connection.endheaders()
        assert connection.getresponse().status == status
        connection.close()
