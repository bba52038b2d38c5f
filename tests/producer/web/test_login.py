"""The cookie of who has logged in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.requests import Request
from starlette.types import Message

from producer.web.app import login
from producer.web.settings import read_web_settings


@pytest.mark.parametrize(
    ("said", "is_secure"),
    [("https", True), ("HTTPS", True), ("https, http", True), ("http", False), ("http, https", False), (None, False)],
)
def test_it_is_secure_behind_proxies_that_speak_https(said: str | None, is_secure: bool) -> None:
    """Before: two proxies, or one that says HTTPS, and browsers sent it over http:// too, for 12 hours."""
    service = SimpleNamespace(web=read_web_settings({"OCRFLEET_WEB_TOKEN": "t" * 20}, folder=Path("/nowhere")))

    async def receive() -> Message:
        return {"type": "http.request", "body": b"token=" + b"t" * 20}

    headers = [(b"host", b"localhost"), *([(b"x-forwarded-proto", said.encode())] if said else [])]
    app = SimpleNamespace(state=SimpleNamespace(service=service))
    scope = {"type": "http", "app": app, "scheme": "http", "path": "/login", "query_string": b"", "headers": headers}
    answer = asyncio.run(login(Request(scope, receive)))
    assert answer.headers["location"] == "/" and ("Secure" in answer.headers["set-cookie"]) is is_secure
