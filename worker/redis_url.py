"""The broker's address: TLS options, and without its password."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

# Query fields that redis-py passes to a connection as keyword arguments and nobody else should read.
_SECRET_FIELDS = ("password", "ssl_password", "credential_provider")


def broker_url(redis_url: str) -> str:
    """The Redis URL in Celery's spelling.

    kombu wants ``redis+socket://`` for a Unix socket and ``virtual_host`` for its database (kombu,
    "Redis Transport: Connection String"), and Celery refuses ``rediss://`` without an explicit ``ssl_cert_reqs``.
    """
    if redis_url.startswith("unix://"):
        parts = urlsplit(redis_url)
        query = parts.query.replace("db=", "virtual_host=") or "virtual_host=0"
        return f"redis+socket://{parts.netloc}{parts.path}?{query}"
    if redis_url.startswith("rediss://") and "ssl_cert_reqs" not in redis_url:
        return redis_url + ("&" if "?" in redis_url else "?") + "ssl_cert_reqs=required"
    return redis_url


def tls_options(redis_url: str) -> dict[str, Any] | None:
    """The TLS part of a ``rediss://`` URL as redis-py's keyword arguments, None for other URLs."""
    if not redis_url.startswith("rediss://"):
        return None
    options = {name: value for name, value in parse_qsl(urlsplit(redis_url).query) if name.startswith("ssl_")}
    return {"ssl_cert_reqs": "required", **options}


def is_local(redis_url: str) -> bool:
    """Whether the broker can only be one of this machine's own: a socket file, or a loopback address."""
    if redis_url.startswith("unix:"):
        return True
    try:
        parts = urlsplit(redis_url)
        host = parts.hostname or "localhost"
        return "@" not in parts.path and (host == "localhost" or ip_address(host).is_loopback)
    except ValueError:  # another name than localhost; a password that breaks the URL
        return False


def redacted(redis_url: str) -> str:
    """The URL without a password, for messages and logs: whatever stands between a user's name and the host is hidden.

    Not by `urlsplit`: in ``redis://:Ab/c+x@host`` it takes ``Ab`` for a port and leaves the password in the path. What
    cannot be parsed at all is not shown.
    """
    scheme, separator, rest = redis_url.partition("://")
    if not separator:
        return "***"  # no URL; it may be anything, such as a password in the wrong variable
    place, question, query = rest.partition("?")
    credentials, at, place = place.rpartition("@")
    if "@" in query and not re.match(r"[\w%]+=", query):  # a password with a "?" in it: the host is behind the last "@"
        credentials, at, place, question, query = "", "@", query.rpartition("@")[2], "", ""
    user, colon, _ = credentials.partition(":")
    hidden = f"{user if colon else ''}:***@" if at else ""
    fields = [_hidden_field(field) for field in query.split("&")] if question else []
    return f"{scheme}://{hidden}{place}{question}{'&'.join(fields)}"


def _hidden_field(field: str) -> str:
    name, equals, _ = field.partition("=")
    return f"{name}=***" if equals and unquote(name).lower() in _SECRET_FIELDS else field
