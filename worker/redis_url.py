"""The broker's address: TLS options, and without its password."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_SCHEMES = ("redis", "rediss", "unix", "redis+socket")
# Query fields that redis-py passes to a connection as keyword arguments and nobody else should read.
_SECRET = re.compile(r"(ssl_|ssl_%5f)?pass(w|%77)ord=|credential_provider=", re.IGNORECASE)
# Those that anybody may read; a value that looks like a password's remainder is not shown.
_NAMES = (
    "(db|virtual_host|username|protocol|client_name|timeout|max_connections|health_check_interval|(ssl|socket)_[a-z_]+)"
)
_OPTION = re.compile(rf"({_NAMES}=[\w./:%~+-]*|(ssl_)?pass(w|%77)ord=.*|credential_provider=.*)", re.IGNORECASE)
_USER = re.compile(r"[\w.-]{1,64}:")
_PLACE = re.compile(r"[\w.:\[\]/%~-]*")


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
    """Whether the broker is spoken to on this machine: at a socket file, or a loopback address.

    Who else comes there is another question (`worker.broker.fitness.who_gets_in`), and so is where a tunnel leads.
    """
    if redis_url.startswith("unix:"):
        return True
    try:
        parts = urlsplit(redis_url)
        host = parts.hostname or "localhost"
        return "@" not in parts.path and (host == "localhost" or ip_address(host).is_loopback)
    except ValueError:  # another name than localhost; a password that breaks the URL
        return False


def is_ambiguous(redis_url: str) -> bool:
    """Whether a password in it ends what parsers take for its place: they then call parts of it a host or a port."""
    try:
        parts = urlsplit(redis_url)
        _ = parts.port
    except ValueError:
        return True
    return "@" in parts.path + parts.fragment or ("@" in parts.query and not _OPTION.match(parts.query))


def redacted(redis_url: str) -> str:
    """The URL without a password, for messages and logs. Shown is what is known to be none; the rest is hidden.

    Not by `urlsplit`: in ``redis://:Ab/c+x@host`` it takes ``Ab`` for a port and leaves the password in the path. A
    password may hold each of ``/ ? # & = @ :``, in front of the host or as a field of the query.
    """
    scheme, separator, rest = redis_url.partition("://")
    if not separator or scheme not in _SCHEMES:
        return "***"  # no URL; it may be anything, such as a password in the wrong variable
    place, _, query = rest.partition("?")
    if not _OPTION.match(query):  # none, or a "?" of a password
        place, query = rest, ""
    elif "@" in query and not _SECRET.match(query):
        return f"{scheme}://***"  # the "?" may be a password's: where it ends nobody can tell
    credentials, at, place = place.rpartition("@")
    user = credentials.partition(":")[0] if _USER.match(credentials) else ""
    where = _PLACE.match(place)
    shown = place[: where.end()] if where else ""
    if shown != place:
        return f"{scheme}://***" if not at else f"{scheme}://{user}:***@{shown}***"
    hidden = f"{user}:***@" if at else ""
    return f"{scheme}://{hidden}{shown}{_shown_fields(query)}"


def _shown_fields(query: str) -> str:
    """The query up to the first field that may be secret: a password may hold what ends a field."""
    shown = []
    for field in filter(None, query.split("&")):
        if _SECRET.match(field) or not _OPTION.fullmatch(field):
            shown.append(field.partition("=")[0] + "=***" if _SECRET.match(field) else "***")
            break
        shown.append(field)
    return f"?{'&'.join(shown)}" if shown else ""
