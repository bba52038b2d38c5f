"""Who has no login of Flower's keeps nobody out of it, and fills no log."""

from __future__ import annotations

import asyncio
import base64
import itertools
import resource
import socket
import string
import subprocess
import sys
import time
import tracemalloc
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tornado.httputil import HTTPHeaders
from tornado.iostream import StreamClosedError
from tornado.testing import bind_unused_port
from tornado.web import Application

from tests.ports import free_port
from tests.processes import wait_until
from worker.celery_ext import flower_answers, flower_connections
from worker.celery_ext.flower_connections import (
    MOST_BODY,
    MOST_BUFFERED,
    MOST_CONNECTIONS,
    MOST_HEADER,
    FewConnections,
    most_connections,
)
from worker.cli import flower

HALF = b"GET / HTTP/1.1\r\nHost: x\r\n"


def talk(most: int, seconds: float, sent: list[bytes], monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What each of some connections, opened one after the other, was answered until it was closed or time was up."""
    monkeypatch.setattr(flower_connections, "most_connections", lambda: most)

    async def run() -> list[bytes]:
        server = FewConnections(Application())
        listener, port = bind_unused_port()
        server.add_socket(listener)
        opened = []
        for raw in sent:
            opened.append(await asyncio.open_connection("127.0.0.1", port))
            opened[-1][1].write(raw)
            await asyncio.sleep(0.01)
        answers = []
        until = time.monotonic() + seconds
        for reader, _ in opened:
            try:
                answers.append(await asyncio.wait_for(reader.read(), max(0.05, until - time.monotonic())))
            except TimeoutError:
                answers.append(b"open")
            except (ConnectionError, StreamClosedError):
                answers.append(b"")
        server.stop()
        await server.close_all_connections()
        for _, writer in opened:
            writer.close()
        return answers

    return asyncio.run(run())


def test_one_more_takes_the_place_of_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = HALF + b"Connection: close\r\n\r\n"
    answers = talk(4, 0.2, [*[HALF] * 7, whole], monkeypatch)
    assert answers[:4] == [b""] * 4 and answers[4:7] == [b"open"] * 3
    assert answers[7].startswith(b"HTTP/1.1 404")


def test_half_a_header_and_half_a_body_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no body of 100 MB is read of who has no login yet."""
    monkeypatch.setattr(flower_connections, "MOST_S", 0.1)
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\nx"
    idle, header, body, long = talk(9, 2.0, [b"", HALF, post % 2000, post % 100_000], monkeypatch)
    assert (idle, header, body) == (b"", b"", b"")
    assert long.startswith(b"HTTP/1.1 400")


def test_headers_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: 64 KiB of short lines were 1.8 MB, of each of 256 connections, and Flower has 512 in all."""
    lines = ("".join(name) + ":\r\n" for name in itertools.product(string.ascii_lowercase, repeat=3))
    some = "".join(itertools.islice(lines, (MOST_HEADER - 100) // 6)).encode()
    fits, does_not = talk(9, 2.0, [HALF + some + b"\r\n", HALF + some * 2 + b"\r\n"], monkeypatch)
    assert b" 404 " in fits.splitlines()[0] or fits == b"open"
    assert does_not == b""
    HTTPHeaders.parse(some.decode())  # what Tornado keeps of names is there from now on
    tracemalloc.start()
    headers = HTTPHeaders.parse(some.decode())
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(list(headers)) > 1000 and held + MOST_HEADER + MOST_BODY < 2 * MOST_BUFFERED


@pytest.mark.parametrize(("files", "most"), [(1024, 256), (1 << 20, 256), (256, 128), (resource.RLIM_INFINITY, 256)])
def test_redis_has_files_left(files: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert most_connections() == most


def test_connections_have_room_in_flowers_memory() -> None:
    """Beside what tests/deploy/test_files.py counts."""
    others = (337 << 20) + flower_answers.MOST_KEPT + 3 * flower_answers.MOST_TOGETHER
    assert others + MOST_CONNECTIONS * MOST_BUFFERED < flower.MEMORY_BYTES


def ask(port: int, path: str, **headers: str) -> int:
    try:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.mark.slow
def test_flower(environment: dict[str, Any], tmp_path: Path) -> None:
    """Before: the health check timed out, and the log had "Too many open files" 17,000 times a second."""
    port, log = free_port(), tmp_path / "flower.log"
    with log.open("wb") as out:
        program = [sys.executable, "-m", "worker.cli", "flower", f"--port={port}"]
        process = subprocess.Popen(
            program,
            env={**environment, "FLOWER_BASIC_AUTH": "me:long-secret"},
            stdout=out,
            stderr=out,
            cwd=tmp_path,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)),
        )
    strangers = []
    try:
        wait_until(lambda: ask(port, "/healthcheck") == 200, seconds=60, what="Flower to listen")
        login = {"Authorization": "Basic " + base64.b64encode(b"me:long-secret").decode()}
        # A web site's name that means this machine, without the login and with it.
        for host in ("127.0.0.1", "evil.test"):
            assert ask(port, "/metrics", Host=host) == ask(port, "/workers", Host=host) == 401
            assert ask(port, "/metrics", Host=host, **login) == 200
        before = log.stat().st_size
        for raw in 300 * [HALF] + 100 * [b"nonsense\r\n\r\n"]:
            strangers.append(socket.create_connection(("127.0.0.1", port), timeout=5))
            strangers[-1].sendall(raw)
        assert ask(port, "/healthcheck") == 200
        time.sleep(2)
        assert ask(port, "/healthcheck") == 200
        assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) < 200
        assert log.stat().st_size - before < 4000
    finally:
        for stranger in strangers:
            stranger.close()
        process.terminate()
        process.wait()
