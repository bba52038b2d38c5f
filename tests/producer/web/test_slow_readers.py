"""A client that asks and does not read is sent away: what its answer holds is given back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from producer.web import server
from producer.web.results import LentResponse
from producer.web.server import PatientProtocol


def test_its_files_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: it held them as long as it liked."""
    monkeypatch.setattr(server, "STALLED_S", 0.2)
    done = asyncio.Event()
    loop_of: list[asyncio.AbstractEventLoop] = []

    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(1 << 20)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = LentResponse(
            endless(), lambda: loop_of[0].call_soon_threadsafe(done.set), media_type="text/csv", headers={}
        )
        await response(scope, receive, send)

    async def serve() -> None:
        loop_of.append(asyncio.get_running_loop())
        config = uvicorn.Config(app, http=PatientProtocol, ws="none", lifespan="off", log_config=None)
        listening = socket.create_server(("127.0.0.1", 0))
        running = uvicorn.Server(config)
        serving = asyncio.create_task(running._serve([listening]))
        with socket.create_connection(listening.getsockname()) as line:
            line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await asyncio.wait_for(done.wait(), 10)
        running.should_exit = True
        await serving

    asyncio.run(serve())
