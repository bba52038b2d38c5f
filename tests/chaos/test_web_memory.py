"""The service in 96 MB: a large upload, a zip of 10,000 pages, and 50 uploads at a time."""

from __future__ import annotations

import io
import os
import socket
import threading
import zipfile
from pathlib import Path

import pytest

from tests.bench.cgroup import MemoryCgroup
from tests.pictures import text_image
from tests.web_service import Served, form

LIMIT_MB = 96
PAGES = 10_000

pytestmark = pytest.mark.chaos


def send_slowly(port: int, head: bytes, piece: bytes, times: int) -> bytes:
    """The status line of the answer to a body that is sent in pieces."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as line:
        line.sendall(head)
        for _ in range(times):
            line.sendall(piece)
        return line.recv(12)


@pytest.mark.skipif(os.geteuid() != 0, reason="a memory cgroup needs root")
def test_it_stays_below_96_mb(environment: dict[str, str], client: object, tmp_path: Path) -> None:
    buffer, pages = io.BytesIO(), io.BytesIO()
    text_image(160, 96).save(buffer, "JPEG")
    with zipfile.ZipFile(pages, "w") as bundle:
        for number in range(PAGES):
            bundle.writestr(f"{number // 100:03d}/{number:05d}.jpg", buffer.getvalue())
    with MemoryCgroup(LIMIT_MB) as cgroup:
        served = Served(
            environment, tmp_path / "web", inside=cgroup.join, TRANSFER="redis", MAX_REQUESTS="50", MAX_FILE_MB="200"
        )
        try:
            status, _, _ = served.ask("POST", "/api/v1/jobs", *form([("pages.zip", pages.getvalue())]))
            assert status == 202
            head = (
                b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
                b"Content-Length: %d\r\n\r\n\xff\xd8\xff"
            )
            size = 100 << 20
            assert send_slowly(served.port, head % (size + 3), bytes(1 << 20), 100) == b"HTTP/1.1 202"
            answers: list[bytes] = []
            ends = [
                threading.Thread(
                    target=lambda: answers.append(send_slowly(served.port, head % ((2 << 20) + 3), bytes(1 << 16), 32))
                )
                for _ in range(50)
            ]
            for end in ends:
                end.start()
            for end in ends:
                end.join()
            usage = cgroup.usage()
            assert usage.oom_kills == 0, usage
            assert set(answers) <= {b"HTTP/1.1 202", b"HTTP/1.1 429"} and answers.count(b"HTTP/1.1 202") >= 40
            assert served.process.poll() is None
            assert usage.held_mb < LIMIT_MB - 2, usage
            print(f"held {usage.held_mb:.0f} MB of {LIMIT_MB}")
        finally:
            served.kill()
