"""What a request's head may have: what is more is refused before it is a request, so that none of it is held."""

from __future__ import annotations

import asyncio
import itertools
import string
import tracemalloc

import h11
import pytest
from starlette.types import Receive, Scope, Send

from producer.web.visitors.request_head import FewLines
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
