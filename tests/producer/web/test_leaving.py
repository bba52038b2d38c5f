"""Who leaves is waited for no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive

from producer.web import api, app, labelstudio
from producer.web.guard import Guard
from producer.web.server import PatientProtocol
from producer.web.settings import read_web_settings
from producer.web.visitors.few_connections import FewConnections, with_connection
from producer.web.visitors.readiness import Readiness
from tests.producer.web.test_answers import until
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
