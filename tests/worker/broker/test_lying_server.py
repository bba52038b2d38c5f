"""Something that answers as no Redis does: a line in the log and exit 3, never a traceback, and it ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import redis
from celery.worker.consumer import Consumer

from detector.exit_codes import ExitCode
from producer.cli.explain import explain as explain_producer
from worker.broker import queue, short_replies
from worker.broker.connection import MISREAD, _asked, impatient
from worker.broker.fitness import refuse_old_users
from worker.celery_ext.consumer import FleetConsumer
from worker.celery_ext.message_shape import wrong_control, wrong_shape
from worker.cli.main import explain as explain_worker
from worker.ledger import Ledger
from worker.ledger import ledger as ledger_module
from worker.ops import key_scan
from worker.ops.worker_registry import workers
from worker.redis_keys import DEAD_KEY
from worker.settings import Settings


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Callable[[bytes], redis.Redis]]:
    """A client of a server that says the same to whatever it is asked."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    said, connection = b"", socket.socket(socket.AF_UNIX)

    def serve() -> None:
        nonlocal connection
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    while asked := connection.recv(1 << 16):
                        # What redis-py says first of itself.
                        greeting = b"%1\r\n$5\r\nproto\r\n:3\r\n" * asked.count(b"HELLO")
                        greeting += b"+OK\r\n" * asked.count(b"CLIENT") + b"+PONG\r\n" * asked.count(b"PING")
                        connection.sendall(greeting or said * max(1, asked.count(b"\r\n*") + 1))
                except OSError:
                    pass

    thread = threading.Thread(target=serve, daemon=True)
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
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # a client that is still somewhere in memory keeps it open
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
        b"$9223372036854775807\r\n",
        b"=536870913\r\n",
        b">9999999\r\n" + b":1\r\n" * 200_000,
        b"*60000\r\n" + b"+%b\r\n" % (b"x" * 60_000) * 20,
        b"*40\r\n" + (b"*500\r\n" + b":1\r\n" * 500) * 40,
        b"$-1\r\n",
        b"$-5\r\n",
    ],
    ids=lambda answer: answer[:8].decode(),
)
def test_what_no_redis_says_is_a_lost_connection(
    liar: Callable[[bytes], redis.Redis], answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: RecursionError, exit 70, or never an end."""
    monkeypatch.setattr(short_replies, "MOST_DROPPED", 50_000)  # a second a million
    monkeypatch.setattr(short_replies, "MOST_LINES", 1_000_000)
    with pytest.raises(redis.ConnectionError):
        liar(answer).lrange("list", 0, -1)


def commands(client: redis.Redis) -> list[Callable[[], object]]:
    """What commands begin with: scripts, plain questions, several at once."""
    ledger = Ledger(client, ttl_s=60)
    return [
        *(ledger.jobs, partial(ledger.status, "job"), partial(ledger.begin, "job", 0, redelivered=False), ledger.now),
        *(partial(ledger.holders, "job"), partial(ledger.lapsed, "job"), partial(queue.depth, client)),
        *(partial(client.xrevrange, DEAD_KEY), partial(client.info, "memory"), partial(workers, client)),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        b"+hello\r\n",
        b":7\r\n",
        b"$3\r\nabc\r\n",
        b"*3\r\n:1\r\n$1\r\nx\r\n*0\r\n",
        b"*2\r\n_\r\n_\r\n",
        b"#t\r\n",
        b",1.5\r\n",
    ],
    ids=lambda answer: answer[:8].decode(),
)
def test_a_reply_of_another_kind_is_a_lost_connection(liar: Callable[[bytes], redis.Redis], answer: bytes) -> None:
    """Before: TypeError, ValueError, AttributeError, and exit 70."""
    client, ended = liar(answer), 0
    for command in commands(client):
        try:
            command()
        except MISREAD as error:
            ended += 1
            for explain in (explain_producer, explain_worker):
                said, code = explain(error) or ("", ExitCode.BUG)
                assert code == ExitCode.BROKER and said.startswith("lost the broker") and "\n" not in said
        except redis.RedisError:
            ended += 1
    assert ended > 4


@pytest.mark.parametrize(
    "answer", [b":1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n", b">3\r\n$8\r\npmessage\r\n$1\r\nx\r\n:1\r\n"]
)
def test_a_lie_about_subscriptions_alone_is_a_lost_connection(
    liar: Callable[[bytes], redis.Redis], settings: Settings, answer: bytes
) -> None:
    """Before: `ocr-worker start`, `doctor` and `flower` ended with a traceback: all else was answered as Redis does."""
    with pytest.raises((*MISREAD, redis.ConnectionError)) as told:
        refuse_old_users(liar(answer))
    impatient.cache_clear()
    _asked.clear()
    impatient(settings.redis_url)  # an honest one in all else
    assert (explain_worker(told.value) or ("", ExitCode.BUG))[1] == ExitCode.BROKER


def test_a_server_without_an_end_is_given_up(
    liar: Callable[[bytes], redis.Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: pages and names of keys went on for as long as it named more."""
    monkeypatch.setattr(ledger_module, "STATE_CHUNK", 100)
    monkeypatch.setattr(ledger_module, "MOST_STATES", 1000)
    for answer, pages in ((b"o" * 100, 1000), (b"o" * 5000, 1000), (b"o" * 7, 7), (b"", 0)):
        with liar(b"$%d\r\n%s\r\n" % (len(answer), answer)) as client:
            ledger = Ledger(client, ttl_s=60)
            assert len(list(ledger.pages_in_state("job", b"o"))) == ledger.first_to_feed("job") == pages
    with liar(b":4000000000\r\n") as client, pytest.raises(MISREAD):  # 4 GB of zeros
        Ledger(client, ttl_s=60).first_to_feed("job")
    monkeypatch.setattr(key_scan, "LONGEST_S", 0.05)
    names = liar(b"*2\r\n$1\r\n7\r\n*1\r\n$1\r\nk\r\n")
    with pytest.raises(redis.ConnectionError, match="without an end"):
        list(key_scan.key_names(names))


def test_a_mistake_of_ours_is_none_of_redis(client: redis.Redis, settings: Settings) -> None:
    """It keeps its traceback: an honest server answers as Redis does; of one that is gone nothing is known."""
    for url in (settings.redis_url, "unix:///nowhere"):
        impatient.cache_clear()
        impatient(url)
        for error in (TypeError("ours"), KeyError("ours"), ValueError("ours")):
            assert explain_producer(error) is None and explain_worker(error) is None
        _asked.clear()
    for command in commands(client):
        command()


def test_a_worker_ends_with_a_line(liar: Callable[[bytes], redis.Redis], monkeypatch: pytest.MonkeyPatch) -> None:
    liar(b"+hello\r\n")
    monkeypatch.setattr(Consumer, "start", Mock(side_effect=TypeError("'>' not supported")))
    with pytest.raises(SystemExit) as ended:
        FleetConsumer.__new__(FleetConsumer).start()
    assert ended.value.code == ExitCode.BROKER


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
