"""A server answers, and that is all: nobody goes where it says, and a reply that it never ends has an end."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import flower.utils.broker
import pytest
import redis
from celery.worker import state
from kombu.exceptions import OperationalError

from worker.app import app_for
from worker.broker import connect, short_replies
from worker.broker.connection import client_of, impatient
from worker.broker.short_replies import Bounds
from worker.celery_ext import consumer, flower_connections
from worker.settings import read_settings

ROOT = Path(__file__).parents[3]
GREETING = b"%1\r\n$5\r\nproto\r\n:3\r\n"
INNER = "127.0.0.2"


class Server:
    """It agrees to all that a client asks for when it connects, and says before each PONG what it is told to.

    Attributes:
        asked: what came, of all connections.
        pushes: before each answer to PING.
        pieces: of the answer to GET, each after `pause` seconds; as many as the client takes.
    """

    def __init__(self) -> None:
        self.asked, self.pushes, self.pause = b"", b"", 0.0
        self.pieces: Callable[[], Iterator[bytes]] = lambda: iter(())
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.inner = socket.create_server((INNER, self.port))  # MOVING's port is not looked at
        self.inner.setblocking(False)
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://producer:secret@127.0.0.1:{self.port}/0"

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self.serve, args=(self.listener.accept()[0],), daemon=True).start()

    def serve(self, line: socket.socket) -> None:
        with line, suppress(OSError):
            while asked := line.recv(1 << 16):
                self.asked += asked
                answer = GREETING if b"HELLO" in asked else b"+OK\r\n" * (asked.count(b"CLIENT") + asked.count(b"AUTH"))
                line.sendall(answer + (self.pushes + b"+PONG\r\n") * asked.count(b"PING"))
                for piece in self.pieces() if b"GET" in asked else ():
                    line.sendall(piece)
                    time.sleep(self.pause)

    def was_left(self) -> bool:
        """Whether a client went to the other address."""
        with suppress(BlockingIOError):
            self.inner.accept()[0].close()
            return True
        return False

    def close(self) -> None:
        with suppress(OSError):  # again
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.inner.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    impatient.cache_clear()
    yield made
    impatient.cache_clear()
    made.close()


def of_connect(url: str) -> redis.Redis:
    return connect(read_settings({"OCRFLEET_REDIS_URL": url}))


def of_connect_3(url: str) -> redis.Redis:
    return of_connect(f"{url}?protocol=3")


def of_kombu(url: str) -> redis.Redis:
    return channel_of(url)._create_client()


def of_kombu_that_waits(url: str) -> redis.Redis:
    return channel_of(url)._create_client(asynchronous=True)


def channel_of(url: str) -> Any:
    return app_for(read_settings({"OCRFLEET_REDIS_URL": url})).connection_for_write().default_channel


PUSHES = {
    "MOVING": b">4\r\n$6\r\nMOVING\r\n:1\r\n:3\r\n$14\r\n127.0.0.2:7000\r\n",
    "MIGRATING": b">3\r\n$9\r\nMIGRATING\r\n:1\r\n:1000\r\n",
    "FAILING_OVER": b">3\r\n+FAILING_OVER\r\n:1\r\n:1000\r\n",
    "invalidate": b">2\r\n$10\r\ninvalidate\r\n_\r\n",
    "SMIGRATED": b">3\r\n+SMIGRATED\r\n:1\r\n*1\r\n*3\r\n+127.0.0.1:1\r\n+127.0.0.2:2\r\n+0-1\r\n",
    "none": b">1\r\n*0\r\n",
}


@pytest.mark.parametrize("make", [of_connect, of_connect_3, impatient, of_kombu, of_kombu_that_waits])
def test_a_push_is_obeyed_by_nobody(server: Server, make: Callable[[str], redis.Redis]) -> None:
    """Before: one MOVING, and the next connections took the password to the other host; Timers kept the process."""
    server.pushes = b"".join(PUSHES.values())
    threads = threading.active_count()
    client = make(server.url)
    for _ in range(2):
        assert client.ping()
        client.connection_pool.disconnect()
    assert not server.was_left() and b"MAINT_NOTIFICATIONS" not in server.asked
    assert not any(isinstance(thread, threading.Timer) for thread in threading.enumerate())
    assert threading.active_count() <= threads + 8  # the server's own, of a connection each


@pytest.mark.parametrize("push", PUSHES)
def test_each_push_is_passed_over_where_something_listens(server: Server, push: str) -> None:
    server.pushes = PUSHES[push]
    client = of_connect(server.url)
    connection = client.connection_pool.get_connection()
    timeout = connection.socket_timeout
    connection.send_command("PING", check_health=False)
    assert connection.read_response(push_request=True) is None and connection.read_response() == b"PONG"
    assert connection.socket_timeout == timeout and connection.host == "127.0.0.1"
    connection.disconnect()


def test_flower_obeys_none_either(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lengths of queues come by a client of its own."""
    broker = flower.utils.broker
    for owner, name in ((broker.Redis, "_get_redis_client_args"), (broker.RedisBase, "queues")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # put back
    monkeypatch.setattr(flower_connections, "QUEUES_S", 0.2)
    server.pushes, server.pause = PUSHES["MOVING"], 0.01
    flower_connections.bound_queues()

    async def ask() -> None:
        client = broker.Broker(server.url)
        for _ in range(2):
            with suppress(redis.RedisError):  # a push is no reply of protocol 2
                await client.redis.ping()
            await client.redis.connection_pool.disconnect()
        with pytest.raises((TimeoutError, redis.RedisError)):
            await client.queues(["ocrfleet"])  # it never answers; before, for as long as it said a byte every 2 s

    asyncio.run(ask())
    assert not server.was_left() and b"MAINT_NOTIFICATIONS" not in server.asked


def test_one_place_makes_clients() -> None:
    """And kombu's come by `SendingChannel`."""
    made = [
        (file.relative_to(ROOT).as_posix(), found)
        for folder in ("worker", "producer", "detector")
        for file in (ROOT / folder).rglob("*.py")
        for found in re.findall(r"\.from_url\(|ConnectionPool\(|\bRedis\((?!connection_pool=)[^)]", file.read_text())
    ]
    assert made == [("worker/broker/connection.py", ".from_url(")]


@pytest.mark.slow
def test_the_app_has_our_channels_by_itself() -> None:
    code = "from worker.app import app; print(app.connection_for_read().transport.Channel.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "SendingChannel\n"  # before: kombu's own, until something imported it


DRIPS = {
    "value": (b"$4000000\r\n", b"x"),
    "value that is dropped": (b"$90000\r\n", b"x"),
    "list": (b"*60000\r\n", b":1\r\n"),
    "list that is dropped": (b"*90000\r\n", b":1\r\n"),
    "line": (b"+", b"x"),
    "pushes": (b"", b">1\r\n+x\r\n"),
}


@pytest.mark.parametrize("drip", DRIPS)
def test_a_reply_as_a_whole_has_a_deadline(server: Server, drip: str) -> None:
    """Before: each byte had a new 30 s."""
    head, rest = DRIPS[drip]

    def pieces() -> Iterator[bytes]:
        yield head
        while True:
            yield rest

    server.pieces, server.pause = pieces, 0.02
    client = client_of(server.url, Bounds(value=1000 if "dropped" in drip else 1 << 23, seconds=0.2), socket_timeout=5)
    began = time.monotonic()
    with pytest.raises(redis.TimeoutError if drip != "pushes" else (redis.TimeoutError, redis.ConnectionError)):
        client.get("key")
    assert time.monotonic() - began < 2


def test_an_honest_reply_over_a_slow_line_comes(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 bytes a second, where 500 are asked for. But who was told to end does not wait for it."""
    monkeypatch.setattr(short_replies, "SLOWEST", 500)
    server.pieces, server.pause = lambda: iter([b"$240\r\n", *[b"12345678901234567890"] * 12, b"\r\n"]), 0.02
    client = client_of(server.url, Bounds(seconds=0.1), socket_timeout=5)
    assert len(client.get("key")) == 240
    monkeypatch.setattr(short_replies, "_hurry", short_replies._Hurry())
    monkeypatch.setattr(short_replies, "HURRY_S", 0.15)
    short_replies.hurry_when(consumer._is_told_to_end)
    monkeypatch.setattr(state, "should_stop", 0)
    began = time.monotonic()
    for _ in range(4):  # 0.15, 0.1, 0.1, 0.1 s
        with pytest.raises(redis.TimeoutError):
            client.get("key")
    assert time.monotonic() - began < 0.8
    monkeypatch.setattr(state, "should_stop", None)
    assert len(client.get("key")) == 240


def test_a_heartbeat_is_sent_again_once(server: Server) -> None:
    """Celery sends one until it is taken. Before: a worker's main process did nothing else, and heard no signal."""
    asks = consumer.FleetConsumer.__new__(consumer.FleetConsumer)
    asks.app = app_for(read_settings({"OCRFLEET_REDIS_URL": server.url}))
    asks.ensure_connected = lambda connection: connection
    with asks.connection_for_write() as connection:
        producer = connection.Producer()
        pool = producer.channel.pool
        server.close()
        pool.disconnect()
        with pytest.raises(OperationalError):
            producer.publish({}, routing_key="worker.heartbeat", retry=True, retry_policy={"interval_start": 0})
