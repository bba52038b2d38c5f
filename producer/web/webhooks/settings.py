"""Who may be told that a job has ended: ``OCRFLEET_WEBHOOK_SECRET`` and ``OCRFLEET_WEBHOOK_HOSTS``."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from urllib.parse import urlsplit

from producer.errors import ProducerError

LEAST_SECRET_BYTES = 24
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class WebhookSettingsError(ProducerError):
    """OCRFLEET_WEBHOOK_SECRET or OCRFLEET_WEBHOOK_HOSTS holds something unusable."""


# IPv6 addresses that stand for an IPv4 address and lead to it, and how far from their end it lies, bits: another name
# of the same host, and what a gateway of the network (NAT64) or the machine itself (6to4) sends on.
_MAPPED, _NAT64, _6TO4 = IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"), IPv6Network("2002::/16")
_GLOBAL = IPv6Network("2000::/3")
"""All that is given out to the internet. Beyond it Python calls some global: IPv4-compatible and -translated (SIIT),
site-local, a network's own NAT64, names of segments (5f00::/16)."""

_EXAMPLES = IPv6Network("3fff::/20")  # RFC 9637; Python 3.13 knows them
_NOT_PUBLIC = (
    # Of protocols; Python 3.11.7 knows its first eight addresses alone. 192.0.0.192 was a cloud's metadata service.
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),  # the nearest 6to4 gateway, whosever it is (RFC 7526)
    IPv4Network("168.63.129.16/32"),  # of the internet by the registry; in Azure the machine's own host answers there
)
_PUBLIC_AMONG_THEM = (IPv4Address("192.0.0.9"), IPv4Address("192.0.0.10"))  # RFC 7723, 8155: by the registry, global


def is_public(address: Address) -> bool:
    """Whether an address, and the IPv4 address that it may stand for, belongs to the internet and to one host."""
    if isinstance(address, IPv4Address):
        if any(address in network for network in _NOT_PUBLIC):
            return address in _PUBLIC_AMONG_THEM
        return address.is_global and not address.is_multicast
    bits = int(address)
    if address in _MAPPED or address in _NAT64:
        return is_public(IPv4Address(bits & 0xFFFFFFFF))
    if bits >> 32 & 0xFCFFFFFF == 0x5EFE and not is_public(IPv4Address(bits & 0xFFFFFFFF)):  # ISATAP, below any prefix
        return False
    if address in _6TO4:
        return is_public(IPv4Address(bits >> 80 & 0xFFFFFFFF))
    return address in _GLOBAL and address not in _EXAMPLES and address.is_global and not address.is_multicast


@dataclass(frozen=True, slots=True)
class Receiver:
    """An entry of OCRFLEET_WEBHOOK_HOSTS.

    Attributes:
        host: name or address, lower case.
        port: None: 443 (80 for http).
        network: addresses beside public ones that the name may resolve to.
    """

    host: str
    port: int | None
    network: Network | None

    def may_be_at(self, address: Address) -> bool:
        """Whether a connection to this address is one to the receiver, not to something inside our network.

        A name's owner decides what it resolves to, also ``127.0.0.1`` or a cloud's metadata service.
        """
        if self.network is not None and address.version == self.network.version and address in self.network:
            return True
        return is_public(address)


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Who may be told, and with which secret.

    Attributes:
        secret: the key of the signature.
        receivers: empty: nobody.
    """

    secret: bytes
    receivers: tuple[Receiver, ...]

    def receiver(self, url: str) -> Receiver | None:
        """The entry that allows an address; None if there is none."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            return None
        if (
            parts.scheme not in ("http", "https")
            or parts.username is not None
            or not host
            or not (url.isascii() and url.isprintable())
        ):
            return None
        usual = 443 if parts.scheme == "https" else 80
        for one in self.receivers:
            if one.host == host and (port or usual) == (one.port or usual):
                # Without TLS only where the list names the address or its network: nothing of it crosses the internet.
                return one if parts.scheme == "https" or one.network is not None else None
        return None


def read_webhook_settings(environ: Mapping[str, str]) -> WebhookSettings:
    """Read ``OCRFLEET_WEBHOOK_SECRET`` and ``OCRFLEET_WEBHOOK_HOSTS``.

    Raises:
        WebhookSettingsError: an unusable value, or one without the other.
    """
    entries = [one for one in environ.get("OCRFLEET_WEBHOOK_HOSTS", "").replace(" ", "").split(",") if one]
    receivers = tuple(_receiver(one) for one in entries)
    text = environ.get("OCRFLEET_WEBHOOK_SECRET", "").strip()
    if not text and receivers:
        raise WebhookSettingsError(f"OCRFLEET_WEBHOOK_HOSTS is set, OCRFLEET_WEBHOOK_SECRET is not: {_MAKE_ONE}")
    try:
        secret = base64.b64decode(text.removeprefix("whsec_"), validate=True) if text else b""
    except ValueError:
        secret = b""
    if text and (not text.startswith("whsec_") or len(secret) < LEAST_SECRET_BYTES):
        raise WebhookSettingsError(f"OCRFLEET_WEBHOOK_SECRET is not whsec_ and base64 of 24 bytes or more: {_MAKE_ONE}")
    return WebhookSettings(secret, receivers)


def _receiver(entry: str) -> Receiver:
    name, _, inside = entry.lower().partition("=")
    try:
        parts = urlsplit(f"//{name}")
        host, port = (parts.hostname or "").rstrip("."), parts.port
        network = ip_network(inside) if inside else None
    except ValueError as error:
        raise WebhookSettingsError(f"OCRFLEET_WEBHOOK_HOSTS: {entry}: {error}") from None
    if not host or parts.netloc != name:
        raise WebhookSettingsError(f"OCRFLEET_WEBHOOK_HOSTS: {entry} is not HOST, HOST:PORT or HOST=NETWORK")
    if network is None:
        try:  # an address that the owner of this service wrote down is meant
            network = ip_network(host)
        except ValueError:
            network = None
    return Receiver(host, port, network)


_MAKE_ONE = (
    "make one with: python3 -c 'import base64, os; print(\"whsec_\" + base64.b64encode(os.urandom(32)).decode())'"
)
