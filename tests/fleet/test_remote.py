"""Pages at s3:// and https:// addresses: a real S3 server, a real TLS server, and everything that must be refused."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from detector.errors import NotFound, TooLarge, UnsupportedFormat
from producer.archive_process.limited_readers import limited_readers
from producer.detector_process import remote_process, remote_program
from producer.detector_process.remote_program import WantedCount
from producer.job import upload
from producer.job.manifest import ManifestLine
from producer.sources.found_page import FoundPage
from producer.sources.passed_over import PassedOver
from producer.sources.remote import scan_everything
from producer.sources.scan import SourceMissingError
from producer.sources.scan_time import ScanTime
from tests.fleet.tls import certificates
from tests.pictures import text_image, write_images
from tests.processes import WorkerProcess, command
from tests.producer.records import pdf
from worker.ledger import Ledger
from worker.settings import SettingsError, split_roots
from worker.storage import Storage, remote
from worker.storage.remote import Remote, allowed


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer  # half a second in each of the processes that only collect

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a machine with access to the bucket has in its environment."""
    variables = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


def s3_client() -> Any:
    import boto3

    return boto3.client("s3")


def test_s3_in_s3_out(environment: dict[str, str], aws: dict[str, str], tmp_path: Path) -> None:
    bucket = s3_client()
    bucket.create_bucket(Bucket="scans")
    for number, path in enumerate(write_images(tmp_path / "in", 4)):
        bucket.upload_file(str(path), "scans", f"in/a folder/ü {number}#1.jpg" if number % 2 else f"in/{path.name}")
    pages = [text_image(tint=number) for number in range(3)]
    pages[0].save(tmp_path / "letter.pdf", save_all=True, append_images=pages[1:])
    bucket.upload_file(str(tmp_path / "letter.pdf"), "scans", "in/letter.pdf")
    bucket.put_object(Bucket="scans", Key="in/readme.txt", Body=b"not an image")
    bucket.put_object(Bucket="scans", Key="private/other.jpg", Body=b"x")
    everywhere = {**environment, **aws}
    worker = WorkerProcess({**everywhere, "OCRFLEET_ROOTS": "s3://scans/in"}, tmp_path / "worker.log")
    try:
        told = command(
            everywhere, "ocr-producer", "enqueue", "s3://scans/in", "--job", "cloud", "--watch", "-q",
            "--output", "s3://scans/results/cloud",
        )  # fmt: skip
        assert told.returncode == 0, told.stderr
        outside = command(everywhere, "ocr-producer", "enqueue", "s3://scans/private", "--job", "no", "--watch", "-q")
        assert outside.returncode == 1, outside.stderr
        seen = command(everywhere, "ocr-producer", "collect", "no", "-o", tmp_path / "no", "-q")
        assert seen.returncode == 1
    finally:
        worker.stop()
    text = bucket.get_object(Bucket="scans", Key="results/cloud/results.jsonl")["Body"].read().decode()
    records = [json.loads(line) for line in text.splitlines()]
    assert Counter(record["index"] for record in records) == Counter(range(7))
    assert {record["status"] for record in records} == {"ok"} and all(record["boxes"] for record in records)
    assert sorted(record["page"] for record in records if record["image"] == "letter.pdf") == [0, 1, 2]
    assert "a folder/ü 1#1.jpg" in {record["image"] for record in records}
    [refused] = [json.loads(line) for line in (tmp_path / "no" / "results.jsonl").read_text().splitlines()]
    assert refused["error"]["type"] == "NotFound" and "OCRFLEET_ROOTS" in refused["error"]["message"]


def test_missing_bucket_and_object(aws: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(SourceMissingError, match="AWS_"), limited_readers() as readers:
        list(scan_everything(["s3://no-such-bucket/x"], readers, exclude=None))
    s3_client().create_bucket(Bucket="empty")
    with pytest.raises(NotFound):
        Remote((), s3_open=True).fetch("s3://empty/gone.jpg", tmp_path / "copy")


def test_a_bucket_is_listed_a_piece_at_a_time(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: a folder's whole list was held, 1 KB an object, in the page's process, and nobody could end it."""
    client = s3_client()
    client.create_bucket(Bucket="many")
    keys = ["in/a.jpg", "in/b/c.jpg", "in/b/c.txt", "in/b/", "in/d.zip", "in/e.jpg/f.png", "in.jpg", "inside/a.jpg"]
    for key in keys:
        client.put_object(Bucket="many", Key=key, Body=b"x")
    asked: list[int] = []
    monkeypatch.setattr(remote_process, "MOST_KEYS", 2)
    monkeypatch.setattr(remote_process, "LOOK_S", 60.0)
    scan_time = ScanTime()

    with limited_readers(scan_time) as readers:

        def pages(source: str, **kwargs: Any) -> list[FoundPage]:
            return list(scan_everything([source], readers, exclude=None, **kwargs))

        def names(source: str, **kwargs: Any) -> list[str]:
            return [found.image for found in pages(source, **kwargs)]

        passed = PassedOver()
        assert names("s3://many/in", passed=passed, on_request=lambda: asked.append(1)) == [
            "a.jpg", "b/c.jpg", "d.zip", "e.jpg/f.png",
        ]  # fmt: skip
        assert len(asked) == 3 and sum(passed.counts.values()) == 1
        assert len(names("s3://many")) == 6 and names("s3://many/in.jpg") == ["in.jpg"]

        def stop() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            names("s3://many/in", on_request=stop)
        monkeypatch.setattr(remote_process, "MOST_LISTS", 2)
        endless = pages("s3://many/in")
        assert endless[-1].problem is not None and "more than 4 objects" in endless[-1].problem.message
        scan_time.use_up()
        [late] = pages("s3://many/in")
        assert late.problem is not None and "took more than 10 minutes" in late.problem.message


def test_too_large(aws: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = s3_client()
    client.create_bucket(Bucket="big")
    client.put_object(Bucket="big", Key="a.jpg", Body=b"x" * 5000)
    monkeypatch.setattr(remote, "MAX_REMOTE_BYTES", 4999)
    with pytest.raises(TooLarge):
        Remote((), s3_open=True).fetch("s3://big/a.jpg", tmp_path / "copy")
    monkeypatch.setattr(remote, "MAX_REMOTE_BYTES", 5000)
    Remote((), s3_open=True).fetch("s3://big/a.jpg", tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_size == 5000


def test_an_object_is_read_as_no_other(aws: dict[str, str], tmp_path: Path) -> None:
    """Before: of a key that s3fs cuts the other's bytes were the page's, "ok"."""
    client, key = s3_client(), "in/a.pdf?versionId=7.pdf"
    client.create_bucket(Bucket="odd")
    client.put_object(Bucket="odd", Key="in/a.pdf", Body=pdf(3))
    client.put_object(Bucket="odd", Key=key, Body=pdf(2))
    with pytest.raises(NotFound, match="copy it to another key"):
        Remote((), s3_open=True).fetch(f"s3://odd/{quote(key)}", tmp_path / "copy")
    assert "copy it to another key" in remote_program._counted(WantedCount(quote(f"odd/{key}"), "pdf")).error


def test_no_more_of_a_bucket_is_copied_than_may_be_sent(
    aws: dict[str, str], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: up to 512 MiB of the producer's disk, to be refused then."""
    client = s3_client()
    client.create_bucket(Bucket="large")
    client.put_object(Bucket="large", Key="a.jpg", Body=b"x" * 5000)
    monkeypatch.setattr(upload, "MAX_BLOB_BYTES", 4999)
    with (
        upload.Uploader(ledger, "job", limit_side=0, shrink=False) as uploader,
        pytest.raises(upload.CannotSendError, match=r"larger than 4999 bytes; .*--shrink") as refused,
    ):
        uploader.pack(ManifestLine(0, "a.jpg", "s3://large/a.jpg", 0))
    assert refused.value.type == "TooLarge"


class Pages(http.server.BaseHTTPRequestHandler):
    """/in/page.jpg is there, /in/hop leads to it, /in/escape leads out."""

    def do_GET(self) -> None:
        if self.path in ("/in/hop", "/in/escape"):
            self.send_response(302)
            self.send_header("Location", "/in/page.jpg" if self.path == "/in/hop" else "/private/secret.jpg")
            self.end_headers()
            return
        found = self.path in ("/in/page.jpg", "/private/secret.jpg")
        body = b"the bytes of " + self.path.encode() if found else b""
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))  # Python's server ends TLS without saying so
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def https_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    ca, certificate, key = certificates(tmp_path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_https(https_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Remote((f"{https_server}/in",), s3_open=False)
    storage = Storage((), tmp_path / "spool", {"https": opened.fetch})
    for name in ("page.jpg", "hop"):
        with storage.open(f"{https_server}/in/{name}") as path:
            assert path.read_bytes() == b"the bytes of /in/page.jpg"
    assert list((tmp_path / "spool").iterdir()) == [], "the copy goes when the page is done"
    for name, reason in (("escape", "not allowed"), ("gone.jpg", "404")):
        with pytest.raises(NotFound, match=reason):
            opened.fetch(f"{https_server}/in/{name}", tmp_path / "copy")
    with pytest.raises(NotFound, match="OCRFLEET_ROOTS"):
        Remote((), s3_open=True).fetch(f"{https_server}/in/page.jpg", tmp_path / "copy")
    monkeypatch.setattr(remote, "MAX_REMOTE_BYTES", 10)
    with pytest.raises(TooLarge):
        opened.fetch(f"{https_server}/in/page.jpg", tmp_path / "copy")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(NotFound, match="certificate"):
        opened.fetch(f"{https_server}/in/page.jpg", tmp_path / "copy")


@pytest.mark.parametrize(
    ("uri", "yes"),
    [
        ("https://a.example/in/x.jpg", True),
        ("https://a.example/in", True),
        ("https://a.example/inside/x.jpg", False),
        ("https://a.example/in/../private/x.jpg", False),
        ("https://a.example/in/%2e%2e/private/x.jpg", False),
        ("https://a.example/in/%252e%252e/private/x.jpg", False),
        ("https://a.example/in/..;/private/x.jpg", False),
        ("https://a.example/in/\\..\\private/x.jpg", False),
        ("https://a.example/in/%5c..%5cprivate/x.jpg", False),
        ("https://a.example/in/a..b/%3f..;x/x.jpg", True),
        ("https://a.example.evil/in/x.jpg", False),
        ("https://user@a.example/in/x.jpg", False),
        ("http://a.example/in/x.jpg", False),
        ("s3://bucket/x.jpg", True),
        ("s3://bucket2/x.jpg", False),
        # What `str.strip` takes, urllib takes off: it asked for the folder above.
        *((f"https://a.example/in/..{blank}", False) for blank in " \x0b\x0c\x1c\x1f\x85\xa0\u2003\u3000"),
        ("https://a.example/in/%2E%2E%20/x.jpg", False),
        ("https://a.example/in/x/.. ;y", False),
        ("https://a.example/in/..%2500.jpg", False),
        *((f"https://a.example/in/x#{end}", False) for end in ("/../../y#", "/..#", "..\\y#")),
        *((f"https://a.example/in/..%{mark}", False) for mark in ("3f", "3F.jpg", "253fx", "3f/y")),
        ("https://a.example/in/%" + "25" * 5 + "2e%2e/x", False),  # more layers than are looked at
        # Old Tomcat and IIS, servers that leave a zero byte out, Windows' names.
        *((f"https://a.example/in/{up}/x", False) for up in ("%c0%ae%c0%ae", "%e0%80%ae%C0%AE", "%f0%80%80%ae.")),
        *((f"https://a.example/in/{up}/x", False) for up in ("%u002e%U002E", "%uff0e.", "%25u002e.", "%ef%bc%8e.")),
        *(
            (f"https://a.example/in/{up}/x", False)
            for up in (".%00.", "..%20.", ".. .", ".%20.%20", "..::$DATA", "..:")
        ),
        *((f"https://a.example/in/a{slash}..{slash}x", False) for slash in ("%c0%af", "%c1%9c", "%uff0f", "%u005c")),
        ("https://a.example/in/50%25252520off.jpg", True),
        ("https://a.example/in/a%3F/what%3F..jpg", True),
        ("https://a.example/in/a ..b/.x..;..jpg ", True),
        ("https://a.example/in/.../..a.jpg", True),
        # Names in Latin-1, GBK and Japanese, and what is written in them.
        *(
            (f"https://a.example/in/{name}.jpg", True)
            for name in ("%C0%20propos", "%c0%ae", "%c1%c0%ba", "caf%e9", "..%e9")
        ),
        *(
            (f"https://a.example/in/{name}.jpg", True)
            for name in ("%e5%9b%b3%ef%bc%8e", "a%3ab..", "%u002e", "1%2f2%00", "a. .")
        ),
    ],
)
def test_allowed_prefixes(uri: str, yes: bool) -> None:
    assert allowed(uri, ("https://a.example/in", "s3://bucket/")) is yes


def test_an_address_is_looked_at_in_a_time_linear_in_its_length() -> None:
    """Before: 1.8 s for one of 46 KB, also where no root has addresses; 16 bodies of such kept all others waiting."""
    began = time.process_time()
    for roots in ((), ("https://a.example/in",)):
        assert not allowed("https://a.example/in/%" + "25" * 23_000 + "61", roots)
    assert time.process_time() - began < 0.2


def test_roots_in_one_variable() -> None:
    paths, urls = split_roots("/data:s3://bucket/in:https://host:8443/a:/more")
    assert paths == (Path("/data"), Path("/more"))
    assert urls == ("s3://bucket/in", "https://host:8443/a")
    assert split_roots("https://host:8443:/x")[1] == ("https://host:8443",)
    assert split_roots("") == ((), ())
    with pytest.raises(SettingsError):
        split_roots("http://plain.example/")


def test_a_bucket_as_only_root_closes_all_files(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"x")
    closed = Storage((), tmp_path / "spool", any_path=False)
    with pytest.raises(NotFound, match="outside"), closed.open((tmp_path / "secret.jpg").as_uri()):
        pass
    with pytest.raises(UnsupportedFormat), closed.open("gopher://x"):
        pass
