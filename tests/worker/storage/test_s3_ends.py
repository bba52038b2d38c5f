"""A page's end is the end of what was begun for it at a bucket's server, however slow, or much, that sends."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from billiard.pool import EX_RECYCLE
from celery.concurrency import asynpool

from worker.celery_ext import prefork
from worker.storage.remote import Remote, Unended, s3

pytest.importorskip("s3fs")
HEAD = b"HTTP/1.1 200 OK\r\nLast-Modified: Fri, 27 Nov 2026 09:00:00 GMT\r\nContent-Length: %d\r\n\r\n"
SIZE = 400 << 20
BLOCK = bytes(1 << 16)


class Bucket:
    """A bucket's server. Of `drips` it says 400 MiB, and sends a byte now and then until `floods`; `page` is 4 bytes.

    Attributes:
        asked: `drips` was begun.
        floods: from now on it sends all it can.
        gone: a client's connection ended.
        sent: bytes of the flood.
    """

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.asked, self.floods, self.gone, self.sent = threading.Event(), threading.Event(), threading.Event(), 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self.listening.accept()[0],), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with suppress(OSError), line, line.makefile("rb") as requests:
            while head := requests.readline():
                while requests.readline() not in (b"\r\n", b""):
                    pass
                drips = b"drips" in head
                line.sendall(HEAD % (SIZE if drips else 4))
                if head.startswith(b"GET"):
                    self._drip(line) if drips else line.sendall(b"page")
        self.gone.set()

    def _drip(self, line: socket.socket) -> None:
        self.asked.set()
        while not self.floods.wait(0.02):
            line.sendall(b"\0")
        while self.sent < SIZE:
            line.sendall(BLOCK)
            self.sent += len(BLOCK)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    server = Bucket()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.listening.getsockname()[1]}")
    monkeypatch.setattr(Unended, "is_there", False)
    type(s3()).clear_instance_cache()
    yield server
    server.floods.set()
    type(s3()).clear_instance_cache()
    server.listening.shutdown(socket.SHUT_RDWR)


def fetch_until_time_is_up(server: Bucket, copy: Path) -> None:
    """As a page whose time is over while its bytes drip."""

    def is_over(*_: object) -> None:
        raise SoftTimeLimitExceeded

    def ring() -> None:
        server.asked.wait(30)
        time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, is_over)
    threading.Thread(target=ring, daemon=True).start()
    try:
        with pytest.raises(SoftTimeLimitExceeded):
            Remote((), s3_open=True).fetch("s3://b/drips", copy)
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
def test_a_page_whose_time_is_over_takes_no_more(bucket: Bucket, tmp_path: Path) -> None:
    """Before: 126 MiB of it were taken while the same process was at another job's page, which was `OutOfMemory`."""
    fetch_until_time_is_up(bucket, tmp_path / "copy")
    assert not Unended.is_there
    bucket.floods.set()
    assert bucket.gone.wait(5)
    assert bucket.sent < 8 << 20  # what the kernel holds
    assert not asyncio.all_tasks(s3().loop)
    bucket.gone.clear()
    Remote((), s3_open=True).fetch("s3://b/page", tmp_path / "copy")  # the next one
    assert (tmp_path / "copy").read_bytes() == b"page"
    assert bucket.gone.wait(5)  # nor on a connection that is kept: 14 MB of answers to nothing took 460 MiB


@pytest.mark.slow
def test_a_process_in_which_it_goes_on_takes_no_other_page(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is replaced."""
    from worker.storage import s3_session

    over = threading.Event()

    async def obstinate() -> None:
        while not over.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)

    monkeypatch.setattr(s3_session, "ENDED_S", 0.2)
    monkeypatch.setattr(s3_session, "AGAIN_S", 0.1)
    asyncio.run_coroutine_threadsafe(obstinate(), s3().loop)
    monkeypatch.setattr(
        asynpool.Worker, "_make_child_methods", lambda child: setattr(child, "wait_for_job", lambda: "page")
    )
    monkeypatch.setattr(prefork, "current_process", lambda: SimpleNamespace(index=0))
    child = prefork.PatientWorker.__new__(prefork.PatientWorker)
    child.maxtasks = None
    child._make_child_methods()
    assert child.wait_for_job() == "page"
    try:
        fetch_until_time_is_up(bucket, tmp_path / "copy")
        with pytest.raises(SystemExit) as ended:
            child.wait_for_job()
    finally:
        over.set()
    assert ended.value.code == EX_RECYCLE
