"""Who leaves is waited for no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive

from producer.web import api, app, labelstudio
from producer.web.guard import Guard
from producer.web.server import PatientProtocol
from producer.web.settings import read_web_settings
from producer.web.visitors.behind import MOST_BYTES
from producer.web.visitors.few_connections import FewConnections, _connection_of, with_connection
from producer.web.visitors.leaving import while_there
from producer.web.visitors.readiness import Readiness
from tests.producer.web.test_answers import serving, until
from tests.producer.web.test_guard import everything_is_well


def request_of(receive: Receive, **state: object) -> Request:
    held = SimpleNamespace(state=SimpleNamespace(**state))
    return Request({"type": "http", "app": held, "headers": [], "query_string": b""}, receive)


async def leaves_after(ask: Callable[[Request], Awaitable[Response]], seconds: float, **state: object) -> None:
    """Before: its request went on to be one of 512."""
    messages: list[Message] = [{"type": "http.request", "body": b""}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        if len(messages) == 1:
            await asyncio.sleep(seconds)
        return messages.pop(0)

    began = time.monotonic()
    with pytest.raises(ClientDisconnect):
        await ask(request_of(receive, **state))
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("ask", [api.detect, labelstudio.predict])
def test_a_picture_whose_client_left_is_waited_for_no_more(
    ask: Callable[[Request], Awaitable[Response]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: for 30 s, and 512 of these had everybody told 503, `/healthz` too."""
    deleted, ended = list[str](), Future[None]()
    ended.set_running_or_notify_cancel()

    async def received(*_: object, **__: object) -> labelstudio._Begun:
        return labelstudio._Begun("job", labelstudio.Control(), [])

    monkeypatch.setattr(api, "_receive", received)
    monkeypatch.setattr(labelstudio, "_begin", received)
    service = SimpleNamespace(
        runner=SimpleNamespace(start=lambda name: SimpleNamespace(ended=ended)), web=SimpleNamespace(answer_s=60.0),
        new_name=lambda quick: "job", delete_own=deleted.append,
    )  # fmt: skip
    asyncio.run(leaves_after(ask, 0, service=service))
    assert deleted == ["job"] and not ended.cancelled()


def test_who_asks_whether_it_is_ready_and_leaves_ends_it_for_nobody() -> None:
    """Before: 150 a second, who said no token, were 512 while Redis said nothing for 5 s."""
    goes_on, looks = asyncio.Event(), list[float]()

    async def run() -> None:
        readiness, loop = Readiness(lambda: None), asyncio.get_running_loop()

        def look() -> None:
            looks.append(1)
            asyncio.run_coroutine_threadsafe(goes_on.wait(), loop).result(60)

        readiness._look = look
        await asyncio.gather(*(leaves_after(app.readyz, 0, readiness=readiness) for _ in range(5)))
        stays = asyncio.create_task(readiness.problem())
        await until(lambda: bool(looks))
        goes_on.set()
        assert await stays is None and len(looks) == 1

    asyncio.run(run())


def test_a_probe_is_answered_whatever_else_is_asked() -> None:
    """Before: uvicorn's own bound had Kubernetes told 503, which starts the page anew."""
    connections = FewConnections(2)
    connection = PatientProtocol.__new__(PatientProtocol)
    connection.connections, connection.tasks, connection.is_known = connections, range(5), True  # type: ignore[assignment]
    guard = Guard(everything_is_well, read_web_settings({}, folder=Path("/nowhere")))

    async def status_of(path: str) -> int:
        sent = list[Message]()

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "headers": [(b"host", b"localhost")]}
        await guard(scope | {"state": with_connection({}, connection)}, None, send)  # type: ignore[arg-type]
        return int(sent[0]["status"])

    assert [asyncio.run(status_of(path)) for path in ("/healthz", "/readyz", "/api")] == [200, 200, 503]
    connection.tasks = range(4)  # type: ignore[assignment]
    assert asyncio.run(status_of("/api")) == 200


def page(begun: list[str], ended: list[str], behind: int = 0) -> Starlette:
    """It answers `/later` when so many bytes came behind it, and `/never` not at all."""

    async def never(request: Request) -> Response:
        begun.append("never")
        try:
            await while_there(asyncio.Event().wait(), request.receive)
        finally:
            ended.append("never")
        raise AssertionError

    async def later(request: Request) -> Response:
        begun.append("later")
        connection = _connection_of(request.scope)
        assert isinstance(connection, PatientProtocol)
        await while_there(until(lambda: len(connection.conn.trailing_data[0]) >= behind), request.receive)
        return PlainTextResponse("later")

    async def begins(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"begins"
            begun.append("begins")
            await asyncio.sleep(0.1)

        return StreamingResponse(pieces(), headers={"Content-Length": "6"})

    async def put(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    routes = [Route(f"/{one.__name__}", one, methods=["GET", "PUT"]) for one in (never, later, begins, put)]
    return Starlette(routes=routes)


NEXT = b"GET /begins HTTP/1.1\r\nHost: localhost\r\n\r\n"
SMALL = b"PUT /put HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"
UPLOAD = SMALL.replace(b"3\r\n\r\nabc", b"300000\r\n\r\n") + bytes(300_000)


@pytest.mark.parametrize("behind", [b"G", NEXT, bytes(1 << 20)], ids=["byte", "request", "more than a socket holds"])
@pytest.mark.parametrize("line", ["", "Connection: Upgrade\r\nUpgrade: h2c\r\n"])
def test_it_is_heard_whatever_came_behind_the_request(behind: bytes, line: str) -> None:
    """Before: one byte there, and nobody heard that the client left: all was waited for, and a picture's job stayed."""
    begun, ended = list[str](), list[str]()

    async def run() -> None:
        async with serving(page(begun, ended)) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET /never HTTP/1.1\r\nHost: localhost\r\n{line}\r\n".encode())
            await until(lambda: begun == ["never"])
            writer.write(behind)
            writer.close()
            await until(lambda: ended == ["never"])

    asyncio.run(run())


@pytest.mark.parametrize(
    ("first", "behind", "answers"),
    [
        ("later", NEXT + SMALL, ["later", "begins", "3"]),
        ("later", UPLOAD, ["later"]),
        ("begins", UPLOAD, ["begins", "300000"]),
    ],
    ids=["requests", "an upload", "an upload, when only the end of the answer is missing"],
)
def test_who_asks_on_is_answered_or_told_that_this_is_the_last(first: str, behind: bytes, answers: list[str]) -> None:
    begun = list[str]()

    async def run() -> None:
        async with serving(page(begun, [], min(len(behind), MOST_BYTES + 1))) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET /{first} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await until(lambda: begun == [first])
            writer.write(behind)
            async with asyncio.timeout(10):
                for wanted in answers:
                    head = await reader.readuntil(b"\r\n\r\n")
                    assert (await reader.readexactly(len(wanted))).decode() == wanted
                assert b"\r\nconnection: close\r\n" in head.lower() and await reader.read() == b""
            writer.close()

    asyncio.run(run())
