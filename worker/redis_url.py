"""The broker's address: TLS options, and without its password."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit


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


def redacted(redis_url: str) -> str:
    """The URL without its password, for messages and logs."""
    parts = urlsplit(redis_url)
    if parts.password is None:
        return redis_url
    host = parts.netloc.rsplit("@", 1)[-1]
    return urlunsplit((parts.scheme, f"{parts.username or ''}:***@{host}", parts.path, parts.query, ""))
