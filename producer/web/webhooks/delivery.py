"""One try to tell another server. The request is that of standardwebhooks.com.

Its headers ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature`` (HMAC-SHA256) can be checked with libraries
that are there already.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

from detector.errors import first_line
from detector.http.few_headers import HTTPConnection
from producer.web.webhooks.settings import Address, Receiver, WebhookSettings

TIMEOUT_S = 10.0
"""For one try as a whole: a receiver that answers a byte at a time must not hold the others up."""

MOST_ADDRESSES = 4
"""Of a receiver's name, which are tried one after the other."""

MOST_SAID = 200
"""Characters of what went wrong: they are in the job's status, which is told twice a second to who watches."""


class NotDelivered(Exception):  # noqa: N818  # an answer of another server, not our error
    """This try went wrong; the message says how.

    Attributes:
        for_good: trying again is useless.
    """

    def __init__(self, message: str, *, for_good: bool = False) -> None:
        super().__init__(message)
        self.for_good = for_good


def sign(secret: bytes, delivery: str, at: int, body: bytes) -> str:
    """The value of ``webhook-signature``."""
    signed = f"{delivery}.{at}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def deliver(settings: WebhookSettings, url: str, delivery: str, body: bytes, now: float) -> None:
    """One try.

    Raises:
        NotDelivered: no connection that is allowed, or an answer other than 2xx. Redirects are not followed.
    """
    receiver = settings.receiver(url)
    if receiver is None:
        raise NotDelivered("its host is not in OCRFLEET_WEBHOOK_HOSTS any more", for_good=True)
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "User-Agent": "ocrfleet",
        "webhook-id": delivery,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": sign(settings.secret, delivery, int(now), body),
    }
    connection = HTTPConnection(receiver.host, port)
    deadline = _Deadline()
    try:
        line = _connect(_addresses_of(receiver, port), port, deadline)
        connection.sock = line
        line.settimeout(deadline.left_s())
        deadline.holds(line)
        if parts.scheme == "https":
            # The handshake after the deadline knows of this socket: wrapping takes the other's file away from it.
            line = ssl.create_default_context().wrap_socket(
                line, server_hostname=receiver.host, do_handshake_on_connect=False
            )
            connection.sock = line
            deadline.holds(line)
            line.do_handshake()
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:  # ssl's errors are OSErrors
        # Of an answer that is none http.client says all, which may be 32 KiB.
        reason = f"{receiver.host}: {first_line(error, MOST_SAID)}"
        raise NotDelivered(f"{receiver.host} {_TOO_LATE}" if deadline.is_over else reason) from None
    finally:
        deadline.end()
        connection.close()
    if deadline.is_over:  # http.client takes a line that was cut for the end of the headers
        raise NotDelivered(f"{receiver.host} {_TOO_LATE}")
    if not 200 <= status < 300:
        raise NotDelivered(f"{receiver.host} answered {status}", for_good=status == http.HTTPStatus.GONE)


_TOO_LATE = "did not end its answer in time"


class _Deadline:
    """Ends whatever a thread waits for on a connection, ``TIMEOUT_S`` after the beginning of its try."""

    def __init__(self) -> None:
        self.is_over = False
        self._ends_at = time.monotonic() + TIMEOUT_S
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        self._timer = threading.Timer(TIMEOUT_S, self._cut)
        self._timer.daemon = True
        self._timer.start()

    def left_s(self) -> float:
        """For the next step, of which the socket itself sees to the end; more than none."""
        return max(0.001, self._ends_at - time.monotonic())

    def holds(self, line: socket.socket) -> None:
        """The connection is this socket's from now on."""
        with self._lock:
            self._line = line
            if self.is_over:
                raise TimeoutError(_TOO_LATE)

    def end(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._line = None

    def _cut(self) -> None:
        with self._lock, suppress(OSError):
            self.is_over = True
            if self._line is not None:
                # Not SSLSocket's own, which would take the TLS away under the thread that reads.
                socket.socket.shutdown(self._line, socket.SHUT_RDWR)


def _connect(addresses: Sequence[Address], port: int, deadline: _Deadline) -> socket.socket:
    """A connection to the first that takes one: a name may have an IPv6 address where this machine has none."""
    for left in range(len(addresses), 1, -1):
        with suppress(OSError):
            return socket.create_connection((str(addresses[-left]), port), timeout=deadline.left_s() / left)
    return socket.create_connection((str(addresses[-1]), port), timeout=deadline.left_s())


def _addresses_of(receiver: Receiver, port: int) -> list[Address]:
    """Those that are then connected to: a name that resolves to something else a moment later changes nothing."""
    found = [ip_address(entry[4][0]) for entry in socket.getaddrinfo(receiver.host, port, type=socket.SOCK_STREAM)]
    for address in found:
        if not receiver.may_be_at(address):
            raise NotDelivered(
                f"{receiver.host} resolves to {address}, which is no public address: "
                f"allow it with OCRFLEET_WEBHOOK_HOSTS={receiver.host}={address}"
            )
    return list(dict.fromkeys(found))[:MOST_ADDRESSES]
