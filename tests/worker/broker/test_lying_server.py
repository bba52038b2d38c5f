"""Something that answers as no Redis does: a line in the log and exit 3, never a traceback, and it ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from worker.broker import short_replies
from worker.broker.connection import impatient
from worker.celery_ext.message_shape import wrong_control, wrong_shape


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Callable[[bytes], redis.Redis]]:
    """A client of a server that says the same to whatever it is asked."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    said = b""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    while asked := connection.recv(1 << 16):
                        # What redis-py says first of itself.
                        connection.sendall(b"+OK\r\n" * asked.count(b"CLIENT") or said)
                except OSError:
                    pass

    thread = threading.Thread(target=serve)
    thread.start()

    def client_of(answer: bytes) -> redis.Redis:
        nonlocal said
        said = answer
        impatient.cache_clear()
        return impatient(f"unix://{tmp_path}/s")

    yield client_of
    impatient("unix:///").close()
    impatient.cache_clear()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"*1\r\n" * 200_000,
        b"*2\r\n" * 200_000,
        b"%1\r\n" * 200_000,
        b"*9999999999999\r\n" + b":1\r\n" * 200_000,
        b"*100000\r\n" + b"*9999999999999\r\n" * 100_000,
        b"+" + b"x" * 200_000,
        b"*x\r\n",
        b"$" + b"9" * 5000 + b"\r\n",
        b"*" + b"9" * 5000 + b"\r\n",
        b"$x\r\n",
    ],
    ids=lambda answer: answer[:8].decode(),
)
def test_what_no_redis_says_is_a_lost_connection(
    liar: Callable[[bytes], redis.Redis], answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: RecursionError, exit 70, or never an end."""
    monkeypatch.setattr(short_replies, "MOST_DROPPED", 50_000)  # a second a million
    with pytest.raises(redis.ConnectionError):
        liar(answer).lrange("list", 0, -1)


def test_lists_in_lists_of_an_honest_server_are_read(client: redis.Redis) -> None:
    connection = impatient(f"unix://{client.connection_pool.connection_kwargs['path']}")
    for depth in (6, 12, 6):
        nested = "{" * depth + "}" * depth
        reply = connection.eval(f"return {nested}", 0)
        for _ in range(depth - 1):
            [reply] = reply
        assert reply == []


@pytest.mark.parametrize("check", [wrong_shape, wrong_control])
def test_a_message_nested_deeply_is_refused(check: Callable[[object], str]) -> None:
    properties = {"delivery_tag": "x", "delivery_info": {"exchange": "", "routing_key": "ocrfleet"}}
    headers = {"task": "ocrfleet.detect_image", "id": "job:0"}
    body = "[" * 100_000 + "]" * 100_000
    message = {
        "body": body, "headers": headers, "properties": properties, "content-type": "application/json",
        "content-encoding": "utf-8",
    }  # fmt: skip
    assert check(message)
