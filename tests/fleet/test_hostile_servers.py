"""Servers of buckets and pictures that are slow, silent, endless, or lie: what they may cost a scan, or a report."""

from __future__ import annotations

import http.server
import resource
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from detector.errors import NotFound, UnsupportedFormat
from producer.archive_process.limited_readers import limited_readers
from producer.detector_process import draw, remote_process
from producer.detector_process.draw import OverlayProcess
from producer.detector_process.remote_process import RemoteProcess
from producer.errors import CannotCountError
from producer.job.results_file import CannotSendResultsError, send_results
from producer.sources.passed_over import LONG_NAMED, NOT_ASKED_FOR, PassedOver
from producer.sources.readers import Readers
from producer.sources.remote import scan_everything
from producer.sources.scan import SourceMissingError
from producer.sources.scan_time import ScanTime
from producer.web.bounds import scan_turns
from producer.web.bounds.scan_turns import ScanTurns
from tests.fleet.tls import certificates
from tests.pictures import text_image
from worker.settings import settings
from worker.storage.remote import Remote, s3, s3_errors

LISTS = {
    "nowhere": "<IsTruncated>true</IsTruncated><Contents><Key>p/a.png</Key></Contents>",
    "again": "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
    "nameless": "<Contents><Size>1</Size></Contents>",
    "many": "<Contents><Key>p/a.png</Key></Contents>" * 1001,
    "coded": "<EncodingType>url</EncodingType><Contents><Size>1</Size></Contents>",
    "elsewhere": "".join(
        f"<Contents><Key>{key}</Key></Contents>"
        for key in ("p/a.png", "q/b.png", "p.png", "/etc/c.png", "", f"p/{'n' * 1100}.png", "p/z.pdf")
    ),
}


class Servers(http.server.BaseHTTPRequestHandler):
    """A bucket of each kind at /KIND, and pictures."""

    stopped = threading.Event()

    def do_HEAD(self) -> None:
        if self._redirects():
            return
        if self._what() in ("moved", "get"):
            self._head(4)
        else:
            self.send_response(404)
            self.end_headers()

    def do_PUT(self) -> None:
        self.protocol_version = "HTTP/1.1"  # else aiohttp takes the end of "continue" for the answer's
        if "Expect" in self.headers:
            self.handle_expect_100()
        self.rfile.read(int(self.headers["Content-Length"]))
        if not self._redirects():  # the beginning of an upload in parts
            self._send(b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")

    do_POST, do_DELETE = do_PUT, do_HEAD  # DELETE: an upload in parts is given up

    def _what(self) -> str:
        return urlsplit(self.path).path.split("/")[1].partition("-")[2]

    def _redirects(self) -> bool:
        """Whether the bucket's name begins with a code: to be redirected by, to another server."""
        code, what = urlsplit(self.path).path.split("/")[1].partition("-")[0], self._what()
        passes = {
            "moved": "/eu-west-1/s3/" in self.headers.get("Authorization", ""),
            "parts": self.path.endswith("?uploads"),
            "get": self.command == "HEAD",
        }
        if not code.isdecimal() or passes.get(what, False):
            return False
        self.send_response(int(code))
        self.send_header("Location", self.server.elsewhere)  # type: ignore[attr-defined]
        if what == "moved":
            self.send_header("x-amz-bucket-region", "eu-west-1")
        self.end_headers()
        return True

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        kind = path.split("/")[1]
        if self._redirects():
            return
        if kind == "silent" or (kind == "elsewhere" and path.endswith(".pdf")):
            self.stopped.wait(60)
        elif self._what() == "moved":
            self._send(b"page")
        elif kind == "page.png":
            self._send((Path(self.server.folder) / "page.png").read_bytes())  # type: ignore[attr-defined]
        elif kind == "to":
            self.send_response(302)
            self.send_header("Location", parse_qs(urlsplit(self.path).query)["it"][0])
            self.end_headers()
        elif kind == "drips":
            self._head(1 << 30)
            while not self.stopped.wait(0.1):
                self.wfile.write(b" ")
        elif kind == "endless":
            self._head(1 << 40)
            piece = b"<Contents><Key>p/a.png</Key></Contents>" * 1000
            while not self.stopped.is_set():
                self.wfile.write(piece)
        else:
            self._send(f"<ListBucketResult><Prefix>p/</Prefix>{LISTS[kind]}</ListBucketResult>".encode())

    def _send(self, body: bytes) -> None:
        self._head(len(body))
        self.wfile.write(body)

    def _head(self, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        self.server.seen.append(self.path)  # type: ignore[attr-defined]


class Quiet(http.server.ThreadingHTTPServer):
    """Says nothing of clients that left."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Servers)
        self.folder, self.seen, self.elsewhere = folder, list[str](), ""

    def handle_error(self, *arguments: object) -> None:
        pass

    def serve_until_closed(self) -> Callable[[], None]:
        thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        thread.start()

        def close() -> None:
            Servers.stopped.set()
            self.shutdown()
            self.server_close()
            thread.join()

        Servers.stopped.clear()
        return close


@pytest.fixture
def buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Quiet]:
    server = Quiet(tmp_path)
    close = server.serve_until_closed()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    yield server
    close()


def names(bucket: str, readers: Readers, passed: PassedOver | None = None) -> list[str]:
    found = scan_everything([f"s3://{bucket}/p"], readers, exclude=None, passed=passed)
    return [page.image for page in found]


@pytest.mark.slow
def test_a_list_that_no_bucket_has_is_one_line(buckets: Quiet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: tracebacks, pages of what was not asked for; and of eight PDFs that never came a minute each, or more."""
    monkeypatch.setattr(remote_process, "COUNT_S", 0.5)
    with limited_readers() as readers:
        for bucket, said in (
            ("nowhere", "not where"), ("again", "not where"), ("nameless", "without a name"), ("many", "more than the"),
            ("coded", "cannot be read"),
        ):  # fmt: skip
            with pytest.raises(SourceMissingError, match=rf"^s3://{bucket}/p: its server's list .*{said}"):
                names(bucket, readers)
        passed = PassedOver()
        assert names("elsewhere", readers, passed) == ["a.png", "z.pdf"], "its worker counts the second"
        assert passed.counts == {NOT_ASKED_FOR: 4, LONG_NAMED: 1}


@pytest.mark.slow
@pytest.mark.parametrize("bucket", ["drips", "silent"])
def test_a_server_that_does_not_answer_holds_a_turn_no_longer(
    buckets: Quiet, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: for good, or until 400 s later; the job that was deleted meanwhile had the turn still."""
    monkeypatch.setattr(scan_turns, "SHORT_S", 1.5)
    monkeypatch.setattr(remote_process, "LIST_S", 2.5)
    turns, scans, began = ScanTurns(), [0.0], time.monotonic()
    ended = threading.Event()

    def check() -> None:
        if ended.is_set():
            raise KeyError("deleted")

    def scan(readers: Readers, scan_time: ScanTime) -> int:
        def on_request() -> None:
            check()
            scan_time.check_turn()

        scans.append(time.monotonic() - began)
        return sum(1 for _ in scan_everything([f"s3://{bucket}/p"], readers, exclude=None, on_request=on_request))

    with pytest.raises(SourceMissingError, match=r"no list within 2 s"):
        turns.run(scan, quick=False, look_up=check)
    first, second = scans[1:]
    assert second - first < 4 and time.monotonic() - began - second < 5
    monkeypatch.setattr(scan_turns, "SHORT_S", 60.0)
    monkeypatch.setattr(remote_process, "LIST_S", 60.0)
    threading.Timer(1.0, ended.set).start()
    began = time.monotonic()
    with pytest.raises(KeyError):
        turns.run(scan, quick=False, look_up=check)
    assert time.monotonic() - began < 4


def test_objects_are_counted_within_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: a minute each, of any number."""
    with closing(RemoteProcess(ScanTime(turn_s=60.0))) as remote:
        remote.uncounted = remote_process.MOST_LOST
        with pytest.raises(CannotCountError, match="its worker counts them"):
            remote.count_object("b/a.pdf", "pdf", lambda: None)
        assert remote._child.process is None, "nothing was asked"
    monkeypatch.setattr(remote_process, "COUNTING_S", 0.0)
    with closing(RemoteProcess(ScanTime())) as remote, pytest.raises(CannotCountError, match="its worker counts them"):
        remote.count_object("b/a.pdf", "pdf", lambda: None)


@pytest.mark.slow
def test_an_endless_list_costs_its_own_process(buckets: Quiet) -> None:
    """Before: one of 400 MB was 1,577,884 kB of the page."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with limited_readers() as readers, pytest.raises(SourceMissingError, match="more than 256 MiB"):
        names("endless", readers)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000


@pytest.fixture
def files(buckets: Quiet) -> Iterator[Any]:
    """Ours of these servers, not of another test's."""
    type(s3()).clear_instance_cache()
    yield s3()
    type(s3()).clear_instance_cache()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Quiet]:
    server = Quiet(tmp_path)
    close = server.serve_until_closed()
    yield server
    close()


def test_no_bucket_sends_requests_elsewhere(buckets: Quiet, other: Quiet, files: Any, tmp_path: Path) -> None:
    """Before: each was followed, to any host and port, and a page was read from there."""
    page, copy = tmp_path / "page.png", tmp_path / "copy"
    page.write_bytes(b"x" * 300)
    buckets.elsewhere = f"http://127.0.0.1:{other.server_port}/page.png"
    remote, said = Remote((), s3_open=True), f"redirects to {buckets.elsewhere}, which is not followed"
    for code in (301, 302, 303, 307, 308):
        with pytest.raises(NotFound, match=rf"^s3://{code}/p/a.png: {said}.*\)$"):
            remote.fetch(f"s3://{code}/p/a.png", copy)
        with pytest.raises(NotFound, match=rf"^s3://{code}-get/p/a.png: .*(?i:redirect|moved|\(302)"):
            remote.fetch(f"s3://{code}-get/p/a.png", copy)
        with pytest.raises(s3_errors(), match=said):
            files.call_s3("list_objects_v2", Bucket=str(code), Prefix="p/")
        with pytest.raises(CannotSendResultsError, match=rf"^s3://{code}/out/page.png: {said}"):
            send_results(page, f"s3://{code}/out")
        for bucket in (f"{code}", f"{code}-parts"):
            with pytest.raises(s3_errors(), match=said):
                files.put_file(str(page), f"{bucket}/o", chunksize=100)
    assert len(buckets.seen) < 5 * 6 * 4, "a HEAD's region was asked for a hundred times"
    remote.fetch("s3://307-moved/p/a.png", copy)  # an honest one's, signed for another region
    assert other.seen == [] and copy.read_bytes() == b"page"


def test_another_aiobotocore_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose redirects could not be told apart."""
    from aiobotocore.httpsession import AIOHTTPSession

    monkeypatch.delattr(AIOHTTPSession, "_get_session")
    monkeypatch.delitem(sys.modules, "worker.storage.s3_session", raising=False)
    with pytest.raises(UnsupportedFormat, match="a way of its own"):
        s3()


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Quiet, Quiet]]:
    """Two https servers of this machine."""
    text_image().save(tmp_path / "page.png")
    ca, certificate, key = certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    both = Quiet(tmp_path), Quiet(tmp_path)
    for server in both:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    closers = [server.serve_until_closed() for server in both]
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    yield both
    for close in closers:
        close()


def test_pictures_have_their_time_and_their_host(
    pictures: tuple[Quiet, Quiet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: a byte each five seconds held `collect` and `run` for ever; and a redirect led to any https server."""
    other = pictures[1]
    here, there = (f"https://127.0.0.1:{one.server_port}" for one in pictures)
    monkeypatch.setattr(draw, "MOST_LOST", 2)
    out = tmp_path / "a.jpg"
    settings.cache_clear()
    with OverlayProcess() as process:
        assert process.draw(f"{here}/to?it=/page.png", 0, [], out).ok
        refused = process.draw(f"{here}/to?it={there}/internal", 0, [], out)
        assert "redirects to" in refused.error and "not allowed" in refused.error and other.seen == []
        monkeypatch.setenv("OCRFLEET_ROOTS", there)  # as the workers have it
        settings.cache_clear()
        assert process.draw(f"{here}/to?it={there}/page.png", 0, [], out).ok and len(other.seen) == 1
        monkeypatch.setattr(remote_process, "COPY_S", 1.0)  # the start of its process counts: 1 s is none for the above
        began = time.monotonic()
        for _ in range(2):
            assert "did not send it within" in process.draw(f"{here}/drips", 0, [], out).error
        assert time.monotonic() - began < 30
        assert "servers did not send" in process.draw(f"{here}/page.png", 0, [], out).error
        assert process.draw((tmp_path / "page.png").as_uri(), 0, [], out).ok
        process._remote.late = 0
        for odd in ("https://[", "https://user@127.0.0.1/page.png", f"{here}/../page.png"):
            assert not process.draw(odd, 0, [], out).ok
    settings.cache_clear()
