"""Bodies of JSON: of each only what is asked for becomes objects, and a few large ones are held at a time.

256 KiB of nested lists are 12 MB of Python's objects. Where all of a body was decoded, and kept while its job was
waited for, 100 requests were 1.3 GB of the page's own process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

import msgspec
from starlette.requests import Request

from detector.errors import first_line
from producer.web.problem import Problem
from producer.web.visitors.longest import Lent, Places

MOST_BYTES = 256 << 10
SMALL_BYTES = 8 << 10
"""A body up to here needs no place: each of 256 connections may have one."""

MOST_AT_A_TIME, LEAST_S = 16, 1.0
_REMEDY = 'send {"uris": ["file:///scans/2026"]}, see docs/web.md'
_Asked = TypeVar("_Asked", bound=msgspec.Struct)


def json_places() -> Places:
    """Those for large bodies, of one application."""
    return Places(MOST_AT_A_TIME, LEAST_S)


@asynccontextmanager
async def json_body(request: Request, kind: type[_Asked]) -> AsyncIterator[_Asked]:
    """The body of a request. Its place is left at the end: until then hold what came with it, and no longer.

    Args:
        request: its application's `state` has the `service` and `json_places`.
        kind: its fields alone are decoded. What a `msgspec.Raw` of it is read for is to be decoded one at a time.

    Raises:
        Problem: too large, too slow, not such JSON, or there is no place.
    """
    lent: Lent | None = None
    body = bytearray()
    with ExitStack() as stack:
        try:
            async with asyncio.timeout(request.app.state.service.web.idle_s) as limit:
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > MOST_BYTES:
                        raise Problem(413, "more than 256 KiB of JSON", "name the folder the files lie in")
                    if len(body) > SMALL_BYTES and lent is None:
                        if (lent := request.app.state.json_places.lend(partial(_end, limit))) is None:
                            raise _others_wait()
                        stack.enter_context(lent)
            if lent is not None:
                lent.keep()
            asked = msgspec.json.decode(body, type=kind)  # refuses half a surrogate pair, which no answer could name
        except TimeoutError:
            if lent is not None and lent.given_up:
                raise _others_wait() from None
            raise Problem(408, "the request came too slowly", "send it again") from None
        except msgspec.ValidationError as error:
            raise Problem(400, f"the body is not what is asked for: {first_line(error)}", _REMEDY) from None
        except (ValueError, RecursionError):
            raise Problem(400, "the body is not JSON", _REMEDY) from None
        yield asked


def _end(limit: asyncio.Timeout) -> None:
    with suppress(RuntimeError):  # in this turn of the loop its time is up anyway
        limit.reschedule(0)


def _others_wait() -> Problem:
    return Problem(429, "many large bodies are on their way", "try again in a moment", retry_after_s=1)
