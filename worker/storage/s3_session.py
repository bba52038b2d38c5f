"""How S3 is asked: as aiobotocore does, but that no server sends a request on to another address.

Imported only where the ``s3`` extra is.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import BotoCoreError

if not hasattr(AIOHTTPSession, "_get_session"):
    raise ImportError("this aiobotocore asks in a way of its own, which would follow redirects of a bucket's server")


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
        return _Straight(await super()._get_session(proxy_url))


class _Straight:
    """What aiobotocore asks of aiohttp's session, which is `request` alone: other ways are an AttributeError."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def request(self, method: str, **asked: Any) -> Any:
        return await self._session.request(method, **asked, allow_redirects=False)
