"""Who leaves is waited for no more: what was begun for him ends, or others have it.

A connection that ends makes room for the next one, and its request counted on: 35 a second that sent a small picture
and left were 512 after 15 s, and everybody was told 503.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

_Found = TypeVar("_Found")


@asynccontextmanager
async def when_gone(receive: Receive, leave: Callable[[], object]) -> AsyncIterator[None]:
    """Inside, `leave` is called when the client has left. What is not read yet of its request is dropped."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            """The request's body, if it has one."""
        leave()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def while_there(what: Coroutine[Any, Any, _Found], receive: Receive) -> _Found:
    """What a client waits for. It is cancelled where he leaves: no thread may be at work in it, unless shielded.

    Raises:
        ClientDisconnect: he left.
    """
    waiting = asyncio.create_task(what)
    try:
        async with when_gone(receive, waiting.cancel):
            await asyncio.wait([waiting])
        if waiting.cancelled():
            raise ClientDisconnect
        return waiting.result()
    finally:
        waiting.cancel()
