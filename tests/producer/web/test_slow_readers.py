"""A client that asks and does not read is sent away: what its answer holds is given back.

One that reads slowly, when another needs that.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from producer.web import server
from producer.web.bounds import upload_places
from producer.web.bounds.answers import STREAM_BYTES, AllReaders, Answers, Budget, Reader, ReadPlaces
from producer.web.client import Client, ClientError, Job
from producer.web.results import BLOCK, LentResponse
from producer.web.server import PatientProtocol
from tests.producer.records import ok
from tests.producer.web.test_answers import answer, asked, serving, until
from worker.messages import encode


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


@pytest.mark.parametrize("kind", ["budget", "places", "places of threads"])
def test_the_slowest_gives_way_to_who_asks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: six readers of 1.2 KB a second had all converted formats for themselves, 85 all large answers."""
    ended: list[str] = []
    places = ReadPlaces(2)

    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(BLOCK)

    async def stream(request: Request) -> Response:
        name = request.query_params["name"]
        held = ExitStack()
        if kind != "budget":
            place = await (places.wait() if kind == "places" else run_in_threadpool(places.take))
            if place is None:
                raise HTTPException(429)
            held.enter_context(place)
        held.callback(ended.append, name)
        return LentResponse(endless(), held.close, media_type="text/csv", headers={}, readers=places.readers)

    async def run() -> None:
        budget = Budget(2 * STREAM_BYTES if kind == "budget" else 100 * STREAM_BYTES)
        async with serving(Answers(Starlette(routes=[Route("/stream", stream)]), budget)) as port:
            idle = asked(port, "stream?name=idle")
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /stream?name=reading HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readexactly(20 * BLOCK)
            monkeypatch.setattr(upload_places, "WAIT_S", 0.1)
            refused = await answer(port, "stream?name=early")
            monkeypatch.undo()
            assert refused.startswith(b"HTTP/1.1 429 ") and set(ended) <= {"early"}, "all are young"
            ended.clear()
            monkeypatch.setattr(upload_places, "FIRST_S", 0.0)
            monkeypatch.setattr(upload_places, "LOOKED_AT_S", 0.05)
            monkeypatch.setattr(upload_places, "SLOW_BYTES_S", 1 << 40)  # so that both are slow: then the slower goes
            for _ in range(30):
                await asyncio.sleep(0.003)
                await reader.readexactly(4 * BLOCK)
            third = asked(port, "stream?name=third")
            third.setblocking(False)
            loop = asyncio.get_running_loop()
            assert (await loop.sock_recv(third, 12)) == b"HTTP/1.1 200"
            await until(lambda: ended == ["idle"])
            await reader.readexactly(20 * BLOCK)
            for line in (idle, third, writer):
                line.close()
            await until(lambda: sorted(ended) == ["idle", "reading", "third"])
            assert places.readers.are_none()

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["budget", "places"])
def test_who_begins_anew_all_the_time_keeps_nobody_out(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: eight of 1 KB a second, each begun again after 13 s, and 20 of 20 that another asked for were 429."""
    monkeypatch.setattr(upload_places, "FIRST_S", 0.1)
    places, ended = ReadPlaces(3), list[str]()

    def blocks(name: str) -> Iterator[bytes]:
        yield from (bytes(BLOCK) for _ in range(2 if name == "honest" else 1000))

    async def stream(request: Request) -> Response:
        name, held = request.query_params["name"], ExitStack()
        if kind == "places":
            if (place := await places.wait()) is None:
                raise HTTPException(429)
            held.enter_context(place)
        held.callback(ended.append, name)
        return LentResponse(blocks(name), held.close, media_type="text/csv", headers={}, readers=places.readers)

    async def begin_anew(port: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with asked(port, "stream?name=anew") as line:
                line.setblocking(False)
                await loop.sock_recv(line, 12)
                await asyncio.sleep(random.uniform(0.02, 0.09))  # never judged, nor all at a time

    async def run() -> None:
        budget = Budget((3 if kind == "budget" else 100) * STREAM_BYTES)
        async with serving(Answers(Starlette(routes=[Route("/stream", stream)]), budget)) as port:
            those = [asyncio.create_task(begin_anew(port)) for _ in range(9)]
            await until(lambda: len(ended) >= 3)
            for _ in range(2):
                assert (await answer(port, "stream?name=honest")).startswith(b"HTTP/1.1 200 ")
            for one in those:
                one.cancel()
            await asyncio.gather(*those, return_exceptions=True)
            await until(places.readers.are_none)

    asyncio.run(run())


def test_what_is_still_made_is_waited_for() -> None:
    """Before: who left as soon as each was made had all places, whoever else asked: 27 of 29 were 429."""

    async def run() -> None:
        places = ReadPlaces(1)
        with places.take() or ExitStack():
            waiting = asyncio.create_task(places.wait())
            await asyncio.sleep(0.01)
            assert not waiting.done()
        async with asyncio.timeout(5):
            assert await waiting is not None

    asyncio.run(run())


def test_it_is_not_slow_while_it_is_we_who_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is sent next may come from a disk, or wait for a thread."""
    monkeypatch.setattr(upload_places, "FIRST_S", 0.0)

    async def run() -> None:
        readers, reader, sending = AllReaders(), Reader(), asyncio.Event()
        readers.add(reader)

        async def send(message: Message) -> None:
            await sending.wait()

        through = reader.through(send)
        assert not readers.send_slowest_away(), "nothing is sent yet"
        task = asyncio.create_task(through({"type": "http.response.body", "body": b"x"}))
        await asyncio.sleep(0)
        assert reader.slowness() == 0
        sending.set()
        await task
        assert not readers.send_slowest_away() and not readers.are_none()

    asyncio.run(run())


@pytest.mark.parametrize("headers", [b"Content-Length: 10", b"Transfer-Encoding: chunked"])
def test_what_is_cut_off_is_no_download(headers: bytes, tmp_path: Path) -> None:
    """Before: a client took the first bytes of a file for all of them, or raised http.client's error."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for _ in range(2):
                line, _address = listening.accept()
                with line:
                    line.recv(1 << 16)
                    line.sendall(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n4\r\n{\r\n")

        serving = threading.Thread(target=serve)
        serving.start()
        client = Client(f"http://127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(ClientError, match="cut off"):
            Job(client, "a").download("csv", tmp_path / "a.csv")
        with pytest.raises(ClientError, match="cut off"):
            Job(client, "a").status()
        serving.join()
    assert list(tmp_path.iterdir()) == []


def test_half_a_record_is_no_end_of_results() -> None:
    """Before: nothing was said of it, where a proxy speaks HTTP/1.0 and says no length."""
    bodies = [b'{"state": "done"}', encode(ok(0)) + b'\n{"index":']
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for body in bodies:
                line, _address = listening.accept()
                with line:
                    line.recv(1 << 16)
                    line.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + body)

        serving = threading.Thread(target=serve)
        serving.start()
        results = Job(Client(f"http://127.0.0.1:{listening.getsockname()[1]}"), "a").results()
        assert next(results).index == 0
        with pytest.raises(ClientError, match="cut off"):
            next(results)
        serving.join()
