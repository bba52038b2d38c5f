"""Who may come in: the Host header, the bearer token or the page's cookie, and requests that other sites make."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer.web.problem import Problem
from producer.web.settings import WebSettings
from producer.web.visitors.few_connections import is_one_too_many, know

COOKIE = "ocrfleet"
COOKIE_S = 12 * 3600
_COOKIE = re.compile(rf"(?:^|;)[ \t]*{COOKIE}=(\d{{1,11}}\.[0-9a-f]{{64}})(?![^; \t])", re.ASCII)
# The way in.
OPEN = ("/login", "/static/login.js", "/static/page.css", "/static/i18n.js", "/static/icon.svg")
PROBES = ("/healthz", "/readyz")  # Kubernetes and compose ask by address, whatever OCRFLEET_WEB_HOSTS says
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers say "Origin: null" of our own login form
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def sign(token: str, until: int) -> str:
    """A cookie's value: how long it holds, and a signature that only who knows the token can make."""
    return f"{until}.{hmac.new(token.encode(), f'ocrfleet-web:{until}'.encode(), hashlib.sha256).hexdigest()}"


def is_signed(token: str, value: str, now: float) -> bool:
    """Whether a cookie is ours, and still holds."""
    until = value.partition(".")[0]
    return (
        until.isascii()
        and until.isdecimal()
        and len(until) < 12
        and int(until) > now
        and hmac.compare_digest(value.encode(), sign(token, int(until)).encode())
    )


def same_text(given: str, wanted: str) -> bool:
    """Compared in a time that does not tell how much of it is right."""
    return hmac.compare_digest(given.encode(), wanted.encode())


class Guard:
    """ASGI middleware around everything."""

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in SECURITY_HEADERS.items()
                        if name.lower().encode() not in known
                    ),
                ]
            await send(message)

        try:
            wants_login = self._check(scope)
        except Problem as problem:
            await problem.response(close=True)(scope, receive, send_safely)
            return
        if wants_login:
            from starlette.responses import RedirectResponse

            await RedirectResponse("/login", 303)(scope, receive, send_safely)
            return
        await self._app(scope, receive, send_safely)

    def _check(self, scope: Scope) -> bool:
        """Whether the visitor of the page must log in first.

        Raises:
            Problem: the request is refused.
        """
        if scope["path"] in PROBES and scope["method"] in SAFE_METHODS:
            return False
        if is_one_too_many(scope):
            raise Problem(503, "too many connections", "try again", retry_after_s=1)
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = _name_in(host)
        if self._settings.hosts and name not in self._settings.hosts and f"[{name}]" not in self._settings.hosts:
            raise Problem(421, "the Host header names a host that is not this one", "add it to OCRFLEET_WEB_HOSTS")
        if bearer := _bearer(headers):
            if self._settings.token and not same_text(bearer, self._settings.token):
                raise Problem(401, "the bearer token is wrong", "send: Authorization: Bearer OCRFLEET_WEB_TOKEN")
            know(scope)
            return False  # no browser adds that header by itself: no other site can have made this request
        if scope["method"] not in SAFE_METHODS and not _is_same_site(headers, host):
            raise Problem(403, "this request was made by a page of another site", "use the page of this service")
        token = self._settings.token
        if not token or _knows_password(headers, token) or _has_cookie(headers, token):
            know(scope)
            return False
        if scope["path"] in OPEN:
            return False
        if scope["path"] == "/" and scope["method"] in SAFE_METHODS:
            return True
        raise Problem(401, "this service wants a token", "send: Authorization: Bearer OCRFLEET_WEB_TOKEN")


def _name_in(host: str) -> str:
    """Of a Host header; empty if it holds none.

    Raises:
        Problem: it cannot be read. Starlette makes the address of each request from it, where it would raise.
    """
    if set(host) & set("/?#@\\ "):
        return ""
    try:
        parts = urlsplit(f"//{host}")
        # "localhost." is the same name, written out; urlsplit leaves the dot to us.
        return (parts.hostname or "").removesuffix(".") if parts.port is None or parts.port >= 0 else ""
    except ValueError:
        raise Problem(400, "the Host header is no name and port", "send the name of this service") from None


def _has_cookie(headers: Headers, token: str) -> bool:
    """Whether one of the cookies is ours, and still holds. Of all others no value is looked at.

    Python unquotes them in a time that grows with the square of their length (CVE-2024-7592, before 3.11.10 and
    3.12.6): one of 46 KB kept everybody waiting for four seconds.
    """
    now = time.time()
    return any(is_signed(token, value, now) for given in headers.getlist("cookie") for value in _COOKIE.findall(given))


def _bearer(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _knows_password(headers: Headers, token: str) -> bool:
    """Basic authentication with any name: what Label Studio offers. Browsers may add it by themselves."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        password = base64.b64decode(value.strip(), validate=True).partition(b":")[2].decode()
    except ValueError:
        return False
    return same_text(password, token)


def _is_same_site(headers: Headers, host: str) -> bool:
    """By what browsers add to a request and no script can change; programs such as curl send neither header."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:  # "http://["
        return False
