"""A small HTTP server for metrics, which some hundred slow clients neither stop nor make large.

prometheus_client's own has a thread for each connection, for as long as the other side likes: 1,000 with half a header
were 180 threads, where its unit may have 32.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import sys
import threading
import time
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from detector.http.few_headers import few_lines
from detector.http.own_name import MISDIRECTED, is_own_name

AT_ONCE = 8
MOST_S = 20.0
"""For one request and its answer; Prometheus gives up after 10."""

PATIENCE_S = 1.0


class _Handler(WSGIRequestHandler):
    """Says nothing of each request."""

    timeout = MOST_S  # of one read; `service_actions` counts all of them

    server: MetricsServer

    def parse_request(self) -> bool:
        """Whether there is one: half a header that we cut off looks whole."""
        with few_lines(self, "rfile"):  # or 431
            is_one = super().parse_request()
        if not is_one or self.server.was_ended(self.connection):
            return False
        host = self.headers.get("Host", "127.0.0.1").strip()
        if self.server.is_local and not is_own_name(re.sub(r":\d*\Z", "", host)):
            self.send_error(MISDIRECTED, "it listens on this machine alone, and answers 127.0.0.1 and localhost")
            return False
        return True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


class MetricsServer(ThreadingMixIn, WSGIServer):
    """A few connections at a time. One more takes the place of the oldest: a scrape takes milliseconds.

    Attributes:
        is_local: whether it listens where none but this machine's browsers ask, for whatever web site they show.
    """

    daemon_threads = True
    request_queue_size = 128  # with five, a connection among some dozen came seconds later

    def __init__(self, address: str, port: int, registry: CollectorRegistry) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or not ours.
        """
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family = found[0]
        self._lock, self._places = threading.Lock(), threading.Semaphore(AT_ONCE)
        self._began: dict[Any, float] = {}
        self._ended: set[Any] = set()
        super().__init__((address, port), _Handler)
        self.is_local = ipaddress.ip_address(str(self.server_address[0]).partition("%")[0]).is_loopback
        self.set_app(make_wsgi_app(registry))

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; refuse where there is no place."""
        if not self._places.acquire(blocking=False):
            self._end_older_than(min(self._began.values(), default=0.0))
            if not self._places.acquire(timeout=PATIENCE_S):
                self.shutdown_request(request)
                return
        with self._lock:
            self._began[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """It is over, however it ended."""
        super().shutdown_request(request)
        with self._lock:
            self._ended.discard(request)
            had_a_place = self._began.pop(request, None) is not None
        if had_a_place:
            self._places.release()

    def service_actions(self) -> None:
        """Twice a second: end what takes too long."""
        self._end_older_than(time.monotonic() - MOST_S)

    def was_ended(self, request: Any) -> bool:
        """Whether we gave a connection up."""
        with self._lock:
            return request in self._ended

    def _end_older_than(self, moment: float) -> None:
        with self._lock:
            old = [request for request, began in self._began.items() if began <= moment]
            self._ended.update(old)
        for request in old:
            with suppress(OSError):  # its thread was quicker
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Of a client that is gone nothing is said."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)
