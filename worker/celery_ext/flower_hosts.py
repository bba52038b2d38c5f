"""Which names Flower answers to while it asks for no password: those that no web site can take.

A web site may have its own name mean 127.0.0.1 (DNS rebinding), and then reads, in the browser of who visits it, what
listens there. The browser still sends the site's name as Host. A login guards against it too, since browsers keep
logins by name: then any name may be used.
"""

from __future__ import annotations

import ipaddress
from typing import Any

LOCAL_NAMES = ("localhost", "localhost.localdomain")
MISDIRECTED = 421  # RFC 9110, 15.5.20
REMEDY = "Flower has no password, and answers 127.0.0.1 and localhost only: set FLOWER_BASIC_AUTH=user:password"


def is_own_name(name: str) -> bool:
    """Whether a Host (without its port) is an address, or a name that means this machine everywhere.

    A site whose address *is* a number of ours cannot be of others: an address is not looked up.
    """
    name = name.strip("[]").rstrip(".").lower()
    if name in LOCAL_NAMES or name.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def check_hosts() -> None:
    """From now on Flower refuses requests by a foreign name, unless it asks for a login."""
    from flower.app import Flower
    from tornado.web import ErrorHandler

    class ForeignHost(ErrorHandler):
        """Answers with the remedy."""

        def write_error(self, status_code: int, **kwargs: Any) -> None:
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(f"{status_code}: {REMEDY}\n")

    find_handler = Flower.find_handler

    def find_own(self: Any, request: Any, **kwargs: Any) -> Any:
        if self.options.basic_auth or self.options.auth or is_own_name(request.host_name):
            return find_handler(self, request, **kwargs)
        return self.get_handler_delegate(request, ForeignHost, {"status_code": MISDIRECTED})

    Flower.find_handler = find_own
