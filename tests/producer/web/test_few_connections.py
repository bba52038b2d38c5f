"""Whoever reaches the port, without a token too, has as many connections as there are, and no more."""

from __future__ import annotations

import asyncio
import gc
import resource
import weakref
from pathlib import Path

import pytest
import uvicorn

from producer.web.guard import Guard
from producer.web.server import PatientProtocol
from producer.web.settings import read_web_settings
from producer.web.visitors.few_connections import FewConnections, most_connections
from tests.producer.web.test_answers import until
from tests.producer.web.test_guard import TOKEN, everything_is_well

HALF = b"GET / HTTP/1.1\r\nX: "


@pytest.mark.parametrize(("files", "most"), [(1024, 256), (1 << 20, 256), (256, 64), (resource.RLIM_INFINITY, 256)])
def test_jobs_have_files_left(files: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert most_connections() == most


def test_one_more_takes_the_place_of_the_oldest_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: 256 that said nothing had everybody told 503, and there was no bound of those."""
    made: list[weakref.ref[PatientProtocol]] = []
    connection_made = PatientProtocol.connection_made

    def note(one: PatientProtocol, transport: asyncio.Transport) -> None:
        made.append(weakref.ref(one))
        connection_made(one, transport)

    monkeypatch.setattr(PatientProtocol, "connection_made", note)
    guard = Guard(everything_is_well, read_web_settings({"OCRFLEET_WEB_TOKEN": TOKEN}, folder=Path("/nowhere")))

    async def run() -> None:
        config = uvicorn.Config(guard, http=PatientProtocol, ws="none", lifespan="off", log_config=None, port=0)
        running = uvicorn.Server(config)
        few = FewConnections(4)
        running.server_state.connections = few  # type: ignore[assignment]
        task = asyncio.create_task(running._serve())
        await until(lambda: running.started)
        port = running.servers[0].sockets[0].getsockname()[1]

        async def line(said: bytes = HALF) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            before = len(made)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            await until(lambda: len(made) > before)
            return reader, writer

        async def ask(to: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: str, token: str = "") -> bytes:
            given = f"Authorization: Bearer {token}\r\n" if token else ""
            to[1].write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{given}\r\n".encode())
            answer = await asyncio.wait_for(to[0].readuntil(b"\r\n\r\n"), 5)
            return answer[9:12]

        known = [await line(b"")]
        assert await ask(known[0], "/api", TOKEN) == b"200"
        await known[0][0].readexactly(len("2\r\nin\r\n0\r\n\r\n"))
        halves = [await line() for _ in range(9)]
        assert len(few) == 4
        for reader, _ in halves[:6]:
            with pytest.raises(ConnectionError):
                await reader.read()
        assert await ask(known[0], "/api", TOKEN) == b"200", "it came first, and stays"
        for _ in range(3):
            known.append(await line(b""))
            assert await ask(known[-1], "/healthz") == b"200"
            await known[-1][0].readexactly(len("2\r\nin\r\n0\r\n\r\n"))
            assert await ask(known[-1], "/", TOKEN) == b"200"
        for _ in range(3):  # all are known
            one_more = await line(b"")
            assert await ask(one_more, "/healthz") == b"200"
            await one_more[0].readexactly(len("2\r\nin\r\n0\r\n\r\n"))
            assert await ask(one_more, "/api", TOKEN) == b"503" and len(few) <= 5
        for _, writer in (*known, *halves, one_more):
            writer.close()
        await until(lambda: not len(few))
        running.should_exit = True
        await task

    gc.collect()
    gc.disable()  # nothing waits for it
    try:
        asyncio.run(run())
        assert sum(one() is not None for one in made) <= 1, "the last is in the frame of its event"
    finally:
        gc.enable()
