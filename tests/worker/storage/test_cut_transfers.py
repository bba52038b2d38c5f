"""What ends before its end is no page, whoever ended it; what an honest server sends is, however he sends it."""

from __future__ import annotations

import socket
import ssl
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count, takewhile
from pathlib import Path

import pytest
import redis

from detector.errors import NotFound
from tests.fleet.tls import certificates
from worker.broker import blobs
from worker.detection import ImageRunner
from worker.messages import ImageTask
from worker.redis_keys import blob_key
from worker.settings import Settings
from worker.storage import remote
from worker.storage.remote import Remote, s3
from worker.storage.spool import CutOff, MachineFault

OK, LENGTH, CHUNKS = b"HTTP/1.1 200 OK\r\n", b"Content-Length: %d\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"
PAGE = bytes(range(256)) * 1000
HALF = PAGE[: len(PAGE) // 2]


def chunked(data: bytes, size: int = 4096) -> bytes:
    pieces = (data[begin : begin + size] for begin in range(0, len(data), size))
    return b"".join(b"%05x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


@dataclass
class Server:
    """Answers each request on TLS with the same bytes, and ends with or without close_notify."""

    answer: bytes = b""
    endless: bytes = b""
    notify: bool = False
    port: int = 0
    seen: list[str] = field(default_factory=list)
    sent: int = 0

    def address(self, name: str = "page.jpg") -> str:
        return f"https://127.0.0.1:{self.port}/{name}"

    def fetch(self, target: Path) -> None:
        Remote((self.address(""),), s3_open=False).fetch(self.address(), target)

    def serve(self, listening: socket.socket, context: ssl.SSLContext) -> None:
        with suppress(OSError):
            while True:
                raw, _ = listening.accept()
                raw.settimeout(5)
                with suppress(OSError), context.wrap_socket(raw, server_side=True) as line:
                    path = line.recv(65536).split()[1].decode()
                    self.seen.append(path)
                    line.sendall(OK + LENGTH % 4 + b"page" if path == "/elsewhere" else self.answer)
                    while self.endless and path != "/elsewhere":
                        self.sent += line.send(self.endless)
                    if self.notify:
                        line.unwrap()


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def pictures(identity: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    ca, certificate, key = identity
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(port=listening.getsockname()[1])
        thread = threading.Thread(target=server.serve, args=(listening, context))
        thread.start()
        yield server
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        OK + LENGTH % len(PAGE) + HALF,
        OK + LENGTH % len(PAGE) + PAGE[:-1],
        OK + LENGTH % len(PAGE),
        OK + CHUNKS + chunked(HALF),
        OK + CHUNKS + chunked(HALF)[:-1000],
        OK + CHUNKS + chunked(HALF) + b"00",  # of 00fa0: "0" is the end
        OK + CHUNKS + chunked(HALF) + b"-1\r\n" + PAGE,
    ],
    ids=["length", "last byte", "nothing", "chunks", "half a chunk", "half a chunk's length", "less than nothing"],
)
def test_a_cut_transfer_is_no_page(
    pictures: Server, answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: of the first three whatever came was the page, and so it was of the sixth. Now it is asked for again."""
    for pictures.notify, tries in ((True, 2), (False, 1)):
        pictures.answer = answer
        monkeypatch.setattr(remote, "TRIES", tries)
        with pytest.raises(CutOff, match=rf"^{pictures.address()}: cannot be read: its transfer was cut off: (?!TLS)"):
            pictures.fetch(tmp_path / "copy")
    assert len(pictures.seen) == 3


def test_without_a_length_tls_has_to_end_it(pictures: Server, tmp_path: Path) -> None:
    """Before: an end that needs no key was the page's."""
    for head in (OK + b"\r\n", b"HTTP/1.0 200 OK\r\n\r\n", OK + b"Content-Length: x\r\n\r\n"):
        pictures.answer, pictures.notify = head + HALF, False
        with pytest.raises(CutOff, match="close_notify"):
            pictures.fetch(tmp_path / "copy")
        pictures.answer, pictures.notify = head + PAGE, True
        pictures.fetch(tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == PAGE


@pytest.mark.parametrize(
    "answer",
    [
        OK + LENGTH % len(PAGE) + PAGE,
        b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n" + LENGTH % len(PAGE) + PAGE,
        OK + LENGTH % len(PAGE) + PAGE + b"\r\n",
        OK + CHUNKS + chunked(PAGE) + b"0\r\n\r\n",
        OK + CHUNKS + chunked(PAGE) + b"0\r\nX-Sum: 1\r\n\r\n",
        OK + CHUNKS + chunked(PAGE) + b"0\r\n",  # some leave the last empty line out
        OK + CHUNKS + chunked(PAGE, size=7) + b"0;end\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"X: y\r\n" * 90 + LENGTH % len(PAGE) + PAGE,
        OK + b"X: " + b"y" * 30_000 + b"\r\n" + LENGTH % len(PAGE) + PAGE,
        OK + b"Transfer-Encoding: Identity\r\n" + LENGTH[:-2] % len(PAGE) + LENGTH % len(PAGE) + PAGE,
        OK + b"Content-Range: bytes 0-%d/%d\r\n" % (len(PAGE) - 1, len(PAGE)) + LENGTH % len(PAGE) + PAGE,
        OK + b"Content-Range: bytes */%d\r\n" % len(PAGE) + LENGTH % len(PAGE) + PAGE,
    ],
    ids=[
        *("length", "coded", "more", "chunks", "trailer", "no trailer", "small chunks", "continued", "large headers"),
        *("one length twice", "a range that is all", "no range"),
    ],
)
def test_a_whole_transfer_is_one(pictures: Server, answer: bytes, tmp_path: Path) -> None:
    """Whatever ends TLS then, here nothing does."""
    pictures.answer = answer
    pictures.fetch(tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == PAGE


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (OK + b"Content-Length: 25", "in the middle of a line"),
        (OK + b"X: y\r\n", "before the headers did"),
        (OK + b"".join(b"h%d: " % number + b"\r a:" * 10_000 + b"\r\n" for number in range(97)), "more than 32 KiB"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 3000, "more than 32 KiB"),
        (b"HTTP/1.1 500 " + b"\x1b[31mE" * 5000 + b"\r\n\r\n", r"the server says 500 \\x1b\[31mE"),
        (b"HTTP/1.1 302 x\r\nLocation: /page.jpg\r\n\r\n", "infinite loop"),
        (b"HTTP/1.1 302 x\r\nLocation: //" + b"e\xc2\x9b" * 9000 + b"\r\n\r\n", "redirects to https://e"),
        (b"HTTP/1.1 206 Partial Content\r\n" + LENGTH % 4 + b"half", "206"),
        # Before, these were pages: marks of chunks, the first of two lengths, a part, nothing.
        (OK + CHUNKS.replace(b"chunked", b"Chunked ") + chunked(HALF), "it as 'Chunked"),
        (OK + CHUNKS.replace(b"chunked", b"gzip, chunked") + chunked(HALF), "it as 'gzip, chunked"),
        (OK + CHUNKS[:-2] + CHUNKS + chunked(HALF), "it as 'chunked, chunked"),
        (OK + b"Content-Length: 5\r\n" + LENGTH % 4 + b"half", "two lengths"),
        (OK + b"Content-Range: bytes 0-3/9\r\n" + LENGTH % 4 + b"half", "a part of it .200"),
        (b"HTTP/1.1 203 x\r\nContent-Range: Bytes 5-8/9\r\n" + LENGTH % 4 + b"half", "a part of it .203"),
        (b"HTTP/1.1 204 x\r\n\r\n", "nothing .204"),
    ],
    ids=[
        *("half a header", "half the headers", "headers", "continued", "reason", "loop", "address", "part"),
        *("a blank", "two codings", "twice", "two lengths", "a range", "the end of it", "nothing"),
    ],
)
def test_what_a_server_says_is_one_short_line(pictures: Server, answer: bytes, said: str, tmp_path: Path) -> None:
    """Before: 54,059 characters with raw escapes, two lines, and half headers were whole."""
    pictures.answer, pictures.notify = answer, True
    tracemalloc.start()
    try:
        with pytest.raises(NotFound, match=said) as refused:
            pictures.fetch(tmp_path / "copy")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert len(str(refused.value)) < 1600 and str(refused.value).isprintable()
    assert not isinstance(refused.value, CutOff)


def test_a_redirects_body_is_not_read(pictures: Server, tmp_path: Path) -> None:
    """Before: urllib read all of it into memory, 449 MB of an endless one."""
    pictures.answer, pictures.endless = b"HTTP/1.1 302 x\r\nLocation: /elsewhere\r\n\r\n", bytes(1 << 16)
    pictures.fetch(tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"page" and pictures.sent < 32 << 20


def test_the_page_goes_to_another_machine(pictures: Server, settings: Settings, tmp_path: Path) -> None:
    """Before: a cut JPEG was `CorruptImage` for good, a cut PDF with an update behind it "ok" without its last page."""
    pictures.answer, pictures.notify = OK + LENGTH % len(PAGE) + HALF, True
    runner = ImageRunner(replace(settings, spool_dir=tmp_path, url_roots=(pictures.address(""),)))
    with pytest.raises(MachineFault) as fault:
        runner.run(ImageTask(job="j", index=0, image="page.jpg", uri=pictures.address()), attempts=1, losses=0)
    assert fault.value.filename == "page.jpg" and "128,000 of 256,000 bytes" in str(fault.value.strerror)
    assert isinstance(fault.value.__cause__, CutOff)


@contextmanager
def bucket(size: int, first: int) -> Iterator[str]:
    """Of a server that says so many bytes, and sends ``first`` of the first range, and none of others."""

    def serve(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                line, _ = listening.accept()
                with line, line.makefile("rb") as requests:
                    while head := b"".join(takewhile(lambda line: line != b"\r\n", iter(requests.readline, b""))):
                        body = PAGE[:first] if b"bytes=0-" in head else b""
                        length = size if head.startswith(b"HEAD") else len(body)
                        answer = (
                            b"HTTP/1.1 200 OK\r\nLast-Modified: Fri, 27 Nov 2026 09:00:00 GMT\r\n" + LENGTH % length
                        )
                        line.sendall(answer + body)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        type(s3()).clear_instance_cache()
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.slow
def test_an_object_has_as_many_bytes_as_were_announced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before: a range without bytes was the object's end."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    for size, first in ((5000, 4000), (5000, 0), (5000, 5000), (0, 0)):
        with bucket(size, first) as endpoint:
            monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
            type(s3()).clear_instance_cache()
            if first == size:
                Remote((), s3_open=True).fetch("s3://b/a.jpg", tmp_path / "copy")
                assert (tmp_path / "copy").stat().st_size == size
            else:
                with pytest.raises(CutOff, match=rf"ended after {first:,} of {size:,} bytes"):
                    Remote((), s3_open=True).fetch("s3://b/a.jpg", tmp_path / "copy")


def test_a_blob_that_goes_away_meanwhile(client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: its first pieces were the page."""
    page, uri, copy = PAGE * 10, blobs.blob_uri("job", 7), tmp_path / "copy"

    def fetch(others: dict[int, bytes]) -> None:
        """While the pieces are asked for; the fourth question is whether that was all."""
        asked, getrange = count(), client.getrange

        def meanwhile(*arguments: int) -> bytes:
            if (other := others.get(next(asked))) is not None:
                client.set(blob_key("job", 7), other) if other else client.delete(blob_key("job", 7))
            return bytes(getrange(*arguments))

        blobs.put(client, "job", {7: page}, 60)
        with monkeypatch.context() as patch:
            patch.setattr(client, "getrange", meanwhile)
            blobs.fetch(client, uri, copy)

    for at in (1, 2, 3):
        with pytest.raises(NotFound, match="expired while a worker read them: `ocr-producer retry job`"):
            fetch({at: b""})
    for others in ({2: b"", 3: page}, {2: page[: 2 << 20], 3: page}, {3: page + b"x"}):
        with pytest.raises(CutOff, match="others took their place"):
            fetch(others)
    for whole in (page, page[: 2 << 20], page[:1], b""):
        blobs.put(client, "job", {7: whole}, 60)
        blobs.fetch(client, uri, copy)
        assert copy.read_bytes() == whole
