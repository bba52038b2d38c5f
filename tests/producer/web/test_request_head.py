"""What a request's head may have: what is more is refused before it is a request, so that none of it is held."""

from __future__ import annotations

import asyncio
import itertools
import string
import tracemalloc
from hashlib import sha256

import h11
import pytest
from starlette.types import Receive, Scope, Send

from producer.web.server import PIECE_BYTES
from producer.web.visitors.request_head import PIECES_A_TURN, FewLines
from tests.producer.web.test_answers import serving

NAMES = ["".join(name) for name in itertools.product(string.ascii_lowercase, repeat=3)]
BROWSER = [f"{name}: {'x' * 200}" for name in NAMES[:30]]
"""With 4 KB of other services' cookies, and what a proxy adds."""


def head(target: str, *lines: str) -> bytes:
    return "\r\n".join((f"POST {target} HTTP/1.1", "Host: localhost", "Content-Length: 10", *lines, "", "")).encode()


HEADS = {
    "a browser's": (head("/", *BROWSER, "Cookie: " + "x" * 4096), 200),
    "a name": (head("/api/v1/detect?name=" + "%C3%A9" * 127, "Connection: close"), 200),
    "100 lines": (head("/", *(f"{name}:" for name in NAMES[:98])), 200),
    "101 lines": (head("/", *(f"{name}:" for name in NAMES[:99])), 400),
    "12,000 lines": (head("/", *["ab:"] * 9000), 400),
    "a long line": (head("/", "Cookie: " + "x" * (16 << 10)), 400),
    "a long address": (head("/" + "x" * (8 << 10)), 400),
    "a long query": (head("/?" + "x" * (8 << 10)), 400),
    "100 parameters": (head("/?" + "&".join(NAMES[:100])), 200),
    "101 parameters": (head("/?" + "&".join(NAMES[:101])), 400),
    "parameters without a name": (head("/?" + "&" * 101), 400),
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_is_small_or_no_request(kind: str) -> None:
    """Before: all of these were held as long as the body lasted, 10 s without a token; 250 of 46 KB were 422 MB."""
    raw, wanted = HEADS[kind]
    reached = list[str]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def ask() -> bytes:
        async with serving(app) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(raw[: 15 << 10])  # what is not whole has 16 KiB
            await asyncio.sleep(0.02 * (len(raw) > 15 << 10))
            writer.write(raw[15 << 10 :])
            try:
                return await asyncio.wait_for(reader.read(300), 5)
            finally:
                writer.close()

    said = asyncio.run(ask())
    assert said.startswith(b"HTTP/1.1 %d" % wanted) and bool(reached) == (wanted == 200)
    assert wanted == 200 or b"100 header lines, or 16 KiB of them" in said or b"8 KiB, or 100 parameters" in said


def test_what_is_refused_is_not_held() -> None:
    """Also where 250 come in one turn of the loop, before the first of them is looked at by any task."""
    raw = head("/", *["ab:"] * 9000)
    connections = [FewLines(h11.SERVER) for _ in range(3)]
    tracemalloc.start()
    for connection in connections:
        connection.receive_data(raw)
        with pytest.raises(h11.RemoteProtocolError):
            connection.next_event()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held / len(connections) < 2 * len(raw)


@pytest.mark.parametrize("pause_s", [0.0, 0.001, None])
def test_bodies_of_small_chunks_leave_others_their_turns(
    pause_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: 5,400 chunks of a byte were looked at in one turn, and ten such clients were seconds for all others."""
    sizes = [1] * 9000 + [300_000, 1, 70_000, *[3] * 3000]
    sent = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    held, looks = list[int](), list[int]()
    receive_data, next_event, begin_turn = FewLines.receive_data, FewLines.next_event, FewLines.begin_turn

    def note(conn: FewLines, data: bytes) -> None:
        receive_data(conn, data)
        held.append(len(conn.trailing_data[0]))
        looks.append(0)

    def count(conn: FewLines) -> object:
        looks[-1] += 1
        return next_event(conn)

    monkeypatch.setattr(FewLines, "receive_data", note)
    monkeypatch.setattr(FewLines, "next_event", count)
    monkeypatch.setattr(FewLines, "begin_turn", lambda conn: looks.append(0) or begin_turn(conn))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = bytearray(), scope["method"] == "POST" and pause_s is not None
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
            await asyncio.sleep(pause_s or 0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": sha256(body).hexdigest().encode()})

    async def ask() -> bytes:
        async with serving(app) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            writer.write(b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in sent) + b"0\r\n\r\n")
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            try:
                return await asyncio.wait_for(reader.read(), 10)
            finally:
                writer.close()

    said = asyncio.run(ask())
    for body in (b"".join(sent) if pause_s is not None else b"", b""):
        assert sha256(body).hexdigest().encode() in said
    assert said.count(b"HTTP/1.1 200") == 2
    assert max(looks) <= PIECES_A_TURN + 4 and max(held) <= 2 * PIECE_BYTES


@pytest.mark.parametrize("target", ["/" + "x" * (8 << 10), "/?" + "&" * 101])
def test_what_is_refused_of_a_head_request_is_no_traceback(target: str, caplog: pytest.LogCaptureFixture) -> None:
    """Before: two, of 50 lines, each time, without a token; the answer to a HEAD has no body."""

    async def ask() -> bytes:
        async with serving(nobody) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head(target).replace(b"POST", b"HEAD"))
            try:
                return await asyncio.wait_for(reader.read(), 5)
            finally:
                writer.close()

    said = asyncio.run(ask())
    assert said.startswith(b"HTTP/1.1 400") and said.endswith(b"\r\n\r\n")
    assert not [one for one in caplog.records if one.exc_info]


async def nobody(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("nobody asks")
