"""Headers without an end cost nobody memory: not who asks, not who answers. Servers and clients are real ones."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from detector.http.few_headers import MOST_BYTES, HTTPConnection, HTTPHandler
from producer.web.webhooks.delivery import NotDelivered, deliver
from tests.producer.web.test_webhooks import settings
from tests.traced import assert_few_bytes
from worker.ops.metrics_server import MetricsServer

OK, END = b"HTTP/1.1 200 OK\r\n", b"\r\n"
FLOODS = {
    "long lines": OK + b"".join(b"h%d: " % number + b"\xe9" * 65_000 + b"\r\n" for number in range(97)) + END,
    "lone CRs": OK + b"".join((b"h%d:" % number + b"\r " * 33_000)[:65_000] + b"\r\n" for number in range(97)) + END,
    "headers of lone CRs": OK + (b"h:" + b"\ra:" * 21_000 + b"\r\n") * 97 + END,
    "100 Continue": (b"HTTP/1.1 100 Continue\r\n" + b"h: " + b"x" * 1000 + b"\r\n\r\n") * 6_000 + OK + END,
    "one line": b"HTTP/1.1 200 " + b"R" * 60_000 + b"\r\n\r\n",
}
HONEST = (
    OK + b"".join(b"X-%d: " % number + b"v" * 320 + b"\r\n" for number in range(90)) + b"Content-Length: 40000\r\n\r\n"
)


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A port where one request gets this answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            line, _ = server.accept()
            with line, suppress(OSError):
                line.recv(65_536)
                line.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def by_connection(port: int) -> bytes:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


def by_urllib(port: int) -> bytes:
    with urllib.request.build_opener(HTTPHandler).open(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        return bytes(answer.read())


def by_webhook(port: int) -> bytes:
    deliver(settings(f"127.0.0.1:{port}"), f"http://127.0.0.1:{port}/", "msg_1", b"{}", 0)
    return b""


@pytest.mark.parametrize("asked", [by_connection, by_urllib, by_webhook])
@pytest.mark.parametrize("flood", FLOODS)
def test_an_answers_headers_cost_little(flood: str, asked: Callable[[int], bytes]) -> None:
    """Before: 6.4 MB were 337 MB of the page's own process, from a receiver of webhooks."""

    def ask(_: int) -> None:
        with (
            answering(FLOODS[flood]) as port,
            pytest.raises((http.client.HTTPException, OSError, NotDelivered)) as refused,
        ):
            asked(port)
        assert len(str(refused.value)) < 300

    assert_few_bytes(ask, peak=1 << 20)


@pytest.mark.parametrize("asked", [by_connection, by_urllib])
def test_many_headers_and_what_is_behind_them_are_read(asked: Callable[[int], bytes]) -> None:
    body = bytes(range(250)) * 160
    assert len(HONEST) > 0.8 * MOST_BYTES
    with answering(HONEST + body) as port:
        assert asked(port) == body


@pytest.mark.parametrize("kind", ["\xe9", "\r ", "\ra:"])
def test_so_do_a_requests_of_the_exporter(kind: str) -> None:
    """Before: one request of 6.4 MB, without a login, was 337 MB of it, eight were 2 GB."""
    server = MetricsServer("127.0.0.1", 0, CollectorRegistry())
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()

    def ask(_: int) -> None:
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as line:
            with suppress(OSError):
                line.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
                for number in range(97):
                    line.sendall((f"h{number}:" + kind * 65_000).encode("latin-1")[:65_000] + b"\r\n")
                line.sendall(b"\r\n")
            with suppress(ConnectionResetError):  # what it did not read may take its answer away
                assert line.recv(12) in (b"HTTP/1.0 431", b"")

    try:
        assert_few_bytes(ask, peak=1 << 20)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as answer:
            assert answer.status == 200
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_nobody_parses_headers_without_this_bound() -> None:
    """What of Python's library parses headers is named here alone; whoever is a server says `few_lines`."""
    own = re.compile(
        r"\bhttp\.client\.HTTPS?Connection\b|\burlopen\b|\burlretrieve\b|urllib\.request\.HTTPS?Handler\b"
        r"|from http\.client import .*Connection|\bparse_headers\b|BytesHeaderParser|xmlrpc"
    )
    served = re.compile(r"\b(WSGI|BaseHTTP|SimpleHTTP)RequestHandler\b|\bmake_server\b|import .*start_http_server")
    for path in (path for part in ("detector", "worker", "producer") for path in Path(part).rglob("*.py")):
        text = path.read_text()
        if not any(word in text for word in ("http", "urllib", "wsgi", "rpc", "eader", "make_server")):
            continue
        if path.name != "few_headers.py" and path != Path("worker/storage/remote.py"):  # a process with RLIMIT_DATA
            assert not own.search(text), path
            assert not served.search(text) or "few_lines(self" in text, path
            assert "build_opener" not in text or "HTTPSHandler" in text, path
