"""Who has no login of Flower's can still connect: so many at a time, for so long, and Flower says so a few times.

Tornado's server takes as many as there are files, each for an hour. 1,100 with half a header kept everybody else out of
Flower, and its log got "Too many open files" at each turn of its loop: 6 MB a second, for as long as they were held.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from typing import Any

import flower.app
from flower.utils import broker
from flower.views.monitor import Metrics
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.web import authenticated

from worker.log_format import FewOfEach

MOST_CONNECTIONS = 256
"""More than the 128 that Tornado accepts at a turn: a browser's is read before so many others took its place."""

MOST_S = 20.0
"""For a header, the body after it, and for a connection that asks nothing: browsers come again."""

MOST_HEADER = 12 << 10
"""Bytes; Tornado has 64 KiB, which short lines make 1.8 MB of its objects for as long as the body is waited for."""

MOST_BODY = 64 << 10
"""Bytes; Tornado has 100 MB, read before anybody asks for the login. The largest of Flower's own pages has 5 KB."""

MOST_BUFFERED = 256 << 10


def most_connections() -> int:
    """Half of the files that this process may have open, at most: Redis and Flower's own need the others."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else max(1, min(MOST_CONNECTIONS, files // 2))


class FewConnections(HTTPServer):
    """Some connections at a time. One more takes the place of the oldest, as in `worker.ops.metrics_server`."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Tornado's `HTTPServer`, with our bounds."""
        bounds = {
            "idle_connection_timeout": MOST_S,
            "body_timeout": MOST_S,
            "max_header_size": MOST_HEADER,
            "max_body_size": MOST_BODY,
            "max_buffer_size": MOST_BUFFERED,
        }
        super().initialize(*args, **{**bounds, **kwargs})
        self._most = most_connections()
        self._taken: list[IOStream] = []

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """Serve one more."""
        self._taken = [one for one in self._taken if not one.closed()]
        if len(self._taken) >= self._most:
            self._taken.pop(0).close()
        self._taken.append(stream)
        super().handle_stream(stream, address)


QUEUES_S = 5.0
"""For the lengths of all queues; Flower's own 2 s are of each byte."""


def bound_queues() -> None:
    """Flower asks Redis for the lengths of queues by a client of its own, which obeyed what a server pushes."""
    options, ask = broker.Redis._get_redis_client_args, broker.RedisBase.queues

    def deaf(self: Any) -> dict[str, Any]:
        return {**options(self), "protocol": 2}  # it has no pushes (short_replies.py); on a socket none are obeyed

    async def queues(self: Any, names: Any) -> Any:
        return await asyncio.wait_for(ask(self, names), QUEUES_S)

    broker.Redis._get_redis_client_args = deaf
    broker.RedisBase.queues = queues


def bound_connections() -> None:
    """From now on Flower has few connections, logs few lines of each kind, and asks for the login at /metrics, too."""
    start = flower.app.Flower.start_http_server

    def start_quiet(self: Any) -> Any:
        # Whatever logs: Tornado, asyncio and Flower all do over what strangers send. The handlers are there by now.
        for handler in logging.getLogger().handlers:
            handler.addFilter(FewOfEach())
        return start(self)

    bound_queues()
    flower.app.HTTPServer = FewConnections
    flower.app.Flower.start_http_server = start_quiet
    Metrics.get = authenticated(Metrics.get)
