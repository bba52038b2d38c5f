"""Which names a server without a password answers to on this machine: those that no web site can take.

A web site may have its own name mean 127.0.0.1 (DNS rebinding), and then reads, in the browser of who visits it, what
listens there. The browser still sends the site's name as Host.
"""

from __future__ import annotations

import ipaddress

_LOCAL_NAMES = ("localhost", "localhost.localdomain")
MISDIRECTED = 421
"""RFC 9110, 15.5.20."""


def is_own_name(name: str) -> bool:
    """Whether a Host (without its port) is an address, or a name that means this machine everywhere.

    A site whose address *is* a number of ours cannot be of others: an address is not looked up.
    """
    name = name.strip("[]").rstrip(".").lower()
    if name in _LOCAL_NAMES or name.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
