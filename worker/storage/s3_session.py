"""How S3 is asked: as aiobotocore does, but that no server sends a request on to another address.

Imported only where the ``s3`` extra is.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import TimeoutError as TooLongError
from http import HTTPStatus
from typing import Any
from weakref import WeakSet

from aiobotocore.httpsession import AIOHTTPSession
from aiohttp import BaseConnector
from botocore.exceptions import BotoCoreError

if not hasattr(AIOHTTPSession, "_get_session"):
    raise ImportError("this aiobotocore asks in a way of its own, which would follow redirects of a bucket's server")


ENDED_S, AGAIN_S = 5.0, 0.5
"""How long what was begun may take to end, told every so often."""

_connectors: WeakSet[BaseConnector] = WeakSet()


def end_requests(loop: asyncio.AbstractEventLoop) -> bool:
    """Ends what fsspec's thread still does for a page, and the connections that it keeps for the next one.

    A page's time ends the wait for that thread alone: a server that dripped until then had 126 MiB taken from it while
    the process was at another job's page. And aiohttp reads on a connection that nobody uses: of answers that nobody
    asked for, a server sent 14 MB in 6 s, which were 460 MiB.

    Args:
        loop: of that thread, for nobody else.

    Returns:
        Whether all has ended.
    """

    async def end() -> bool:
        ends_at = loop.time() + ENDED_S
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            if loop.time() > ends_at:
                return False
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=AGAIN_S)
        for connector in list(_connectors):
            for idle in connector._conns.values():
                for protocol, *_ in idle:
                    if protocol.transport is not None:
                        protocol.transport.abort()
        return True

    try:
        return asyncio.run_coroutine_threadsafe(end(), loop).result(ENDED_S + 2 * AGAIN_S)
    except (TooLongError, RuntimeError, AttributeError):  # the thread is busy, or has ended; another aiohttp
        return loop.is_closed()


class RedirectedError(BotoCoreError):
    """A bucket's server redirects elsewhere than to another region."""

    fmt = "redirects to {location}, which is not followed (AWS_ENDPOINT_URL says who is asked)"


class NoRedirects(AIOHTTPSession):
    """Follows no redirect: aiohttp follows each, to any host, port and scheme, with every method.

    A 301, 302 or 307 is botocore's then, which resends once for another region: signed anew, to the endpoint that is
    configured, else to the bucket's name below AWS's own.
    """

    async def send(self, request: Any) -> Any:
        """One request's answer.

        Raises:
            RedirectedError: botocore makes nothing of this redirect, or asks by a HEAD for its region: of a HEAD's
                again and again (108 requests, and a RecursionError).
            BotoCoreError: no answer.
        """
        answer = await super().send(request)
        status, headers = answer.status_code, answer.headers
        of_region = status in (301, 302, 307) and (request.method != "HEAD" or "x-amz-bucket-region" in headers)
        if 300 <= status < 400 and status != HTTPStatus.NOT_MODIFIED and not of_region:
            raise RedirectedError(location=headers.get("location", "nowhere"))
        return answer

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        _connectors.add(session.connector)
        return _Straight(session)


class _Straight:
    """What aiobotocore asks of aiohttp's session, which is `request` alone: other ways are an AttributeError."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def request(self, method: str, **asked: Any) -> Any:
        return await self._session.request(method, **asked, allow_redirects=False)
