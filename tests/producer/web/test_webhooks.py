"""Webhooks: who may be told, how it is signed, and what a receiver may do to us. The receiver is a real one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from producer.web.service import Service
from producer.web.store import Store, WebJob
from producer.web.webhooks import delivery
from producer.web.webhooks.courier import Courier, Letter, delivery_of
from producer.web.webhooks.delivery import NotDelivered, deliver
from producer.web.webhooks.settings import WebhookSettings, WebhookSettingsError, read_webhook_settings
from tests.fleet.tls import certificates

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class Listener(ThreadingHTTPServer):
    """Keeps what it was told; answers what it was told to answer."""

    def __init__(self, *answers: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers)
        self.heard: list[tuple[str, dict[str, str], bytes]] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/done?of=us"


class Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 204)
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Nothing to stderr."""


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listening:
        yield listening
        listening.shutdown()


def settings(hosts: str) -> WebhookSettings:
    return read_webhook_settings({"OCRFLEET_WEBHOOK_SECRET": SECRET, "OCRFLEET_WEBHOOK_HOSTS": hosts})


def is_from_us(headers: dict[str, str], body: bytes) -> bool:
    """What a receiver does, by the text of the Standard Webhooks specification."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    return f"v1,{wanted}" in headers["webhook-signature"].split() and (
        abs(time.time() - int(headers["webhook-timestamp"])) < 60
    )


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://hooks.example.org/a", True),
        ("https://HOOKS.example.org:443/a", True),
        ("https://hooks.example.org:8443/a", False),
        ("http://hooks.example.org/a", False),  # no TLS on the way
        ("https://hooks.example.org.evil.example/a", False),
        ("https://evil.example/hooks.example.org", False),
        ("https://hooks.example.org@evil.example/", False),
        ("https://evil.example\\@hooks.example.org/", False),
        ("https://user@hooks.example.org/", False),
        ("https://hooks.example.org/\r\nX: y", False),
        ("https://hooks.example.org/ü", False),
        ("https://[::1/", False),
        ("ftp://hooks.example.org/", False),
        ("http://10.0.0.7:9000/x", True),  # the owner wrote this address down
        ("http://10.0.0.7/x", False),
        ("http://ci.lan/x", True),
        ("http://169.254.169.254/latest/meta-data", False),
    ],
)
def test_only_hosts_of_the_list_are_told(url: str, allowed: bool) -> None:
    listed = settings("hooks.example.org, 10.0.0.7:9000, ci.lan=10.0.0.0/8")
    assert (listed.receiver(url) is not None) is allowed


@pytest.mark.parametrize(
    ("address", "allowed"),
    # Python 3.11.7 calls 192.0.0.8 to 192.0.0.255 global.
    [("192.0.0.8", False), ("192.0.0.192", False), ("192.0.0.9", True), ("192.0.1.1", True), ("192.88.99.1", False),
     ("64:ff9b::c000:c0", False), ("2002:c000:c0::1", False), ("168.63.129.16", False), ("::ffff:168.63.129.16", False),
     ("168.63.129.17", True),
     ("93.184.216.34", True), ("2606:4700::1111", True), ("127.0.0.1", False), ("10.1.2.3", False), ("::1", False),
     ("169.254.169.254", False), ("::ffff:127.0.0.1", False), ("fd00::1", False), ("0.0.0.0", False),
     ("224.0.0.1", False), ("100.64.0.1", False), ("192.168.7.7", True),
     # IPv6 addresses that lead to an IPv4 one, by a gateway or by the machine itself.
     ("64:ff9b::a9fe:a9fe", False), ("64:ff9b::5db8:d822", True), ("64:ff9b:1::5db8:d822", False),
     ("2002:7f00:1::", False), ("2002:5db8:d822::1", True), ("2002:c0a8:101::1", False),
     ("::ffff:93.184.216.34", True), ("::127.0.0.1", False), ("::93.184.216.34", False), ("fec0::1", False),
     ("::ffff:0:7f00:1", False), ("2606:4700::5efe:7f00:1", False), ("2606:4700::200:5efe:a00:1", False),
     ("2606:4700::5efe:5db8:d822", True), ("2002:5db8:d822::5efe:a00:1", False), ("2606:4700::1:5efe:a00:1", True),
     ("3fff::1", False), ("5f00::1", False), ("4000::1", False), ("100::1", False), ("2001:db8::1", False),
     ("2a00:1450:4001::200e", True), ("2001:4860:4860::8888", True), ("2400:cb00::1", True), ("2c0f:f248::1", True),
     ("2001:0:7f00:1::1", False), ("ff0e::1", False), ("::ffff:192.168.7.7", False)],
)  # fmt: skip
def test_a_name_may_not_lead_into_our_network(address: str, allowed: bool) -> None:
    [receiver] = settings("hooks.example.org=192.168.7.0/24").receivers
    assert receiver.may_be_at(ip_address(address)) is allowed


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OCRFLEET_WEBHOOK_HOSTS": "a.example"}, "SECRET is not: make one"),
        ({"OCRFLEET_WEBHOOK_SECRET": "secret"}, "whsec_"),
        ({"OCRFLEET_WEBHOOK_SECRET": "whsec_c2hvcnQ="}, "24 bytes"),
        ({"OCRFLEET_WEBHOOK_SECRET": SECRET, "OCRFLEET_WEBHOOK_HOSTS": "https://a.example/x"}, "HOST"),
        ({"OCRFLEET_WEBHOOK_SECRET": SECRET, "OCRFLEET_WEBHOOK_HOSTS": "a.example=lan"}, "a.example=lan"),
        ({"OCRFLEET_WEBHOOK_SECRET": SECRET, "OCRFLEET_WEBHOOK_HOSTS": "a.example:x"}, "a.example:x"),
    ],
)
def test_unusable_settings_are_named(environ: dict[str, str], said: str) -> None:
    with pytest.raises(WebhookSettingsError, match=said):
        read_webhook_settings(environ)
    assert read_webhook_settings({}).receivers == ()


def test_a_delivery_is_signed_and_redirects_are_not_followed(listener: Listener) -> None:
    allowed = settings(f"127.0.0.1:{listener.server_port}")
    deliver(allowed, listener.url, "msg_1", b'{"a": 1}', time.time())
    [(path, headers, body)] = listener.heard
    assert path == "/done?of=us" and body == b'{"a": 1}' and headers["webhook-id"] == "msg_1"
    assert is_from_us(headers, body) and not is_from_us(headers, body + b" ")
    listener.answers = [302, 410]
    with pytest.raises(NotDelivered, match="answered 302"):
        deliver(allowed, listener.url, "msg_1", b"{}", time.time())
    assert [heard[0] for heard in listener.heard] == ["/done?of=us"] * 2
    with pytest.raises(NotDelivered) as gone:
        deliver(allowed, listener.url, "msg_1", b"{}", time.time())
    assert gone.value.for_good


def test_each_address_of_a_name_is_tried(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: the first alone; a name with an IPv6 address too was never told from a machine without IPv6."""
    found = [(0, 0, 0, "", (address, listener.server_port)) for address in ("::1", "127.9.9.9", "::1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)  # what is an address needs no look-up
    monkeypatch.setattr(socket, "create_connection", partial(_without_look_up, socket.socket))
    allowed = settings(f"a.lan:{listener.server_port}=127.0.0.0/8, b.lan:{listener.server_port}=::1/128")
    with pytest.raises(NotDelivered, match="no public address"):  # each of them is looked at
        deliver(allowed, f"http://a.lan:{listener.server_port}/", "m", b"{}", time.time())
    found.pop(0), found.pop(1)
    deliver(allowed, f"http://a.lan:{listener.server_port}/done", "m", b"{}", time.time())
    assert [path for path, _, _ in listener.heard] == ["/done"]


def _without_look_up(make: Any, address: tuple[str, int], timeout: float) -> socket.socket:
    line: socket.socket = make(socket.AF_INET)
    line.settimeout(timeout)
    line.connect(address)
    return line


def test_what_a_name_resolves_to_is_checked_where_the_connection_is_made(listener: Listener) -> None:
    """`localhost` stands for any name whose owner lets it point into our network."""
    with pytest.raises(NotDelivered, match="no public address"):
        deliver(
            settings(f"localhost:{listener.server_port}"), f"https://localhost:{listener.server_port}/", "m", b"", 0
        )
    assert listener.heard == []


def test_a_receiver_that_never_ends_its_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            line, _ = server.accept()
            with line:
                line.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                try:
                    while True:
                        line.sendall(b"x")
                        time.sleep(0.05)
                except OSError:
                    pass

        threading.Thread(target=drip, daemon=True).start()
        port, began = server.getsockname()[1], time.monotonic()
        with pytest.raises(NotDelivered, match="did not end"):
            deliver(settings(f"127.0.0.1:{port}"), f"http://127.0.0.1:{port}/", "m", b"", 0)
        assert time.monotonic() - began < 5


def test_the_time_of_a_try_begins_before_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: a receiver whose line was full for 7 s, and who then said nothing, had 17 s of the 10."""
    monkeypatch.setattr(delivery, "TIMEOUT_S", 0.6)
    connect = socket.create_connection

    def connects_late(*arguments: Any, **named: Any) -> socket.socket:
        time.sleep(0.5)
        return connect(*arguments, **named)

    monkeypatch.setattr(socket, "create_connection", connects_late)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port, began = server.getsockname()[1], time.monotonic()
        with pytest.raises(NotDelivered, match=r"did not end|timed out"):
            deliver(settings(f"127.0.0.1:{port}"), f"http://127.0.0.1:{port}/", "m", b"", 0)
        assert time.monotonic() - began < 1.0


def test_the_end_of_a_job_that_was_tried_again_is_told_as_well(tmp_path: Path) -> None:
    """Before: a receiver that answered while the job was tried again was not told of its second end."""
    store = Store(tmp_path)
    store.accept(store.new_upload(), "job", WebJob(created=1, webhook="https://a.example/", state="done", finished=2.5))
    service: Any = SimpleNamespace(store=store)
    first, second = delivery_of("job", 2.5), delivery_of("job", 7.5)
    for state, finished in (("open", 0.0), ("cancelled", 7.5)):
        store.change("job", state=state, finished=finished, told="")
        for outcome in ("sent", "given up: 127.0.0.1 answered 500"):
            Service._note_told(service, "job", first, outcome)
            assert store.read("job").told == ""
    Service._note_told(service, "job", second, "sent")
    assert store.read("job").told == "sent"


@pytest.mark.parametrize("drips", ["the handshake", "the answer"])
def test_so_is_one_over_tls(drips: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before: wrapping took the socket away from the clock, and a byte a second held the sender for good."""
    monkeypatch.setattr(delivery, "TIMEOUT_S", 0.5)
    authority, certificate, key = certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            line, _ = server.accept()
            with suppress(OSError), line if drips == "the handshake" else context.wrap_socket(line, True) as line:
                if drips == "the answer":
                    line.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                else:
                    line.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KB is coming
                while not ended.wait(0.05):
                    line.sendall(b"x")

        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        port, began = server.getsockname()[1], time.monotonic()
        try:
            with pytest.raises(NotDelivered, match=r"did not end|timed out"):  # Python has a clock for handshakes
                deliver(settings(f"127.0.0.1:{port}"), f"https://127.0.0.1:{port}/", "m", b"", 0)
            assert 0.4 < time.monotonic() - began < 5
        finally:
            ended.set()
            dripping.join(5)


def test_a_delivery_over_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listener: Listener) -> None:
    authority, certificate, key = certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    allowed, url = settings(f"127.0.0.1:{listener.server_port}"), listener.url.replace("http:", "https:")
    with pytest.raises(NotDelivered, match="certificate"):
        deliver(allowed, url, "msg_1", b"{}", time.time())
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    deliver(allowed, url, "msg_1", b"{}", time.time())
    assert [path for path, _, _ in listener.heard] == ["/done?of=us"]


def test_it_is_tried_again_until_it_is_heard_and_given_up_at_last(listener: Listener) -> None:
    told: dict[str, str] = {}
    done = threading.Event()

    def note(name: str, delivery: str, outcome: str) -> None:
        assert delivery == ("" if name == "broken" else f"msg_{name}")
        told[name] = outcome
        if len(told) == 3:
            done.set()

    def letter(name: str) -> Letter | None:
        if name == "broken":
            raise ZeroDivisionError("a bug of ours, about one job")
        return None if name == "deleted" else Letter(listener.url, f"msg_{name}", b"{}")

    listener.answers = [500, 500, 204, *[500] * 3]
    courier = Courier(settings(f"127.0.0.1:{listener.server_port}"), letter, note, again_after_s=(0.01, 0.01))
    courier.add("deleted")
    courier.add("broken")
    courier.add("heard")
    while "heard" not in told:
        time.sleep(0.005)
    courier.add("deaf")
    assert done.wait(10)
    courier.stop()
    assert told.pop("broken") == "given up: a bug of ours, about one job"
    assert told == {"heard": "sent", "deaf": "given up: 127.0.0.1 answered 500"}
    ids = [headers["webhook-id"] for _, headers, _ in listener.heard]
    assert ids == ["msg_heard"] * 3 + ["msg_deaf"] * 3  # the same id each time: a receiver can tell it is the same
