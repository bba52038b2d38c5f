"""What clients do not read is bounded: of the page's own memory, and of the kernel's, also when they are gone."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from producer.web import server
from producer.web.bounds import upload_places
from producer.web.bounds.answers import SMALL_BYTES, Answers, Budget
from producer.web.bounds.socket_buffers import SEND_BYTES
from producer.web.results import LentResponse
from producer.web.server import PatientProtocol

LARGE = 1 << 20


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[int]:
    """The port of an application."""
    config = uvicorn.Config(app, http=PatientProtocol, ws="none", lifespan="off", log_config=None)
    listening = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(config)
    task = asyncio.create_task(running._serve([listening]))
    try:
        yield listening.getsockname()[1]
    finally:
        running.should_exit = running.force_exit = True
        await task


def asked(port: int, path: str, *lines: str) -> socket.socket:
    """Of who asks, and reads nothing."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.connect(("127.0.0.1", port))
    line.sendall("\r\n".join((f"GET /{path} HTTP/1.1", "Host: localhost", *lines, "", "")).encode())
    return line


async def answer(port: int, path: str) -> bytes:
    """All that comes to who reads."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


async def until(condition: Callable[[], bool], *, seconds: float = 5, every_s: float = 0.01) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(every_s)


@pytest.mark.parametrize("lines", [(), ("Connection: close",)])
def test_nothing_is_kept_of_a_connection_that_is_gone(lines: tuple[str, ...]) -> None:
    """Before: all of its request for 10 s; who asked for /healthz, without a token, had it at 238 MB in 12 s."""

    async def run() -> None:
        async with serving(PlainTextResponse("ok")) as port:
            made.clear()
            for _ in range(20):
                line = asked(port, "healthz", *lines)
                line.setblocking(False)
                assert (await asyncio.get_running_loop().sock_recv(line, 12)) == b"HTTP/1.1 200"
                line.close()
            # A cycle may wait for the collector, which holds up the server meanwhile: seldom.
            await until(lambda: gc.collect() >= 0 and len(made) <= 1, seconds=9, every_s=0.5)

    class Kept(PatientProtocol):
        def __init__(self, *given: object, **named: object) -> None:
            super().__init__(*given, **named)
            made.add(self)

    made = weakref.WeakSet[PatientProtocol]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{__name__}.PatientProtocol", Kept)
        asyncio.run(run())


def application(ended: list[str]) -> Starlette:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(1 << 15)

    def stream(request: Request) -> Response:
        return LentResponse(endless(), lambda: ended.append("stream"), media_type="text/csv", headers={})

    def events(request: Request) -> Response:
        return StreamingResponse(iter([b"data: 1\n\n"]), media_type="text/event-stream")

    def large(request: Request) -> Response:
        return PlainTextResponse(bytes(LARGE))

    def small(request: Request) -> Response:
        return PlainTextResponse(bytes(SMALL_BYTES))

    return Starlette(routes=[Route(f"/{one.__name__}", one) for one in (stream, events, large, small)])


def test_one_budget_for_all_that_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: 250 answers of 6 MB were held as long as nobody read them."""
    ended: list[str] = []
    budget = Budget(most := 3 * LARGE)
    monkeypatch.setattr(upload_places, "WAIT_S", 0.01)

    async def run() -> None:
        async with serving(Answers(application(ended), budget)) as port:
            slow = [asked(port, "large") for _ in range(2)]
            await until(lambda: budget._left < LARGE)
            refused = await answer(port, "large")
            assert refused.startswith(b"HTTP/1.1 429 ") and b"retry-after: 5" in refused.lower()
            slow.append(asked(port, "stream"))
            while budget._left >= 96 << 10:
                slow.append(asked(port, "stream"))
                await asyncio.sleep(0.01)
            refused = await answer(port, "stream")
            # Of those asked for above some may have been too many as well.
            assert refused.startswith(b"HTTP/1.1 429 ") and set(ended) == {"stream"}, "what it lent is given back"
            assert (await answer(port, "small")).endswith(bytes(SMALL_BYTES)), "small ones go on"
            assert b"data: 1" in await answer(port, "events"), "and those of who watches"
            for line in slow:
                line.close()
            await until(lambda: budget._left == most)
            assert len((await answer(port, "large")).partition(b"\r\n\r\n")[2]) == LARGE
            assert budget._left == most

    asyncio.run(run())


def sent_and_unread(port: int) -> list[int]:
    """Bytes that the kernel holds of connections from a port, those that nobody has open any more too."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(line[4][:8], 16) for line in lines if int(line[1][-4:], 16) == port and line[3] != "0A"]


@pytest.mark.slow
@pytest.mark.parametrize("path", ["large", "small"])
def test_the_kernel_keeps_little_and_nothing_of_what_is_closed(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: up to 4 MB for each connection, and for a minute after it was closed; with `Connection: close` of any
    number of them."""
    monkeypatch.setattr(server, "STALLED_S", 0.5)

    async def run() -> None:
        async with serving(Answers(application([]))) as port:
            lines = [asked(port, path, "Connection: close") for _ in range(5)]
            await until(lambda: sum(size > SMALL_BYTES // 2 for size in sent_and_unread(port)) == 5)
            assert max(sent_and_unread(port)) <= 2 * SEND_BYTES
            await until(lambda: sent_and_unread(port) == [])
            for line in lines:
                with suppress(ConnectionResetError):
                    line.close()

    asyncio.run(run())


@pytest.mark.slow
def test_who_ends_his_side_and_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STALLED_S", 0.5)

    async def run() -> None:
        async with serving(Answers(application([]))) as port:
            line = asked(port, "small")
            await until(lambda: sum(sent_and_unread(port)) > SMALL_BYTES // 2)
            line.shutdown(socket.SHUT_WR)
            await until(lambda: sent_and_unread(port) == [])
            line.close()

    asyncio.run(run())
