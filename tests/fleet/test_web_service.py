"""The service as strangers meet it: a real uvicorn, a real worker, bytes through Redis as on a fleet."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from resource import RLIMIT_NOFILE, setrlimit
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.web.client import ClientError
from producer.web.openapi import document
from tests.pictures import text_image, write_images
from tests.processes import WorkerProcess, command, wait_until
from tests.web_service import Served, form

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture
def served(environment: dict[str, str], client: object, tmp_path: Path) -> Iterator[Served]:
    service = Served(
        {**environment, "OCRFLEET_ROOTS": str(tmp_path / "shared")}, tmp_path / "web", TRANSFER="redis", MAX_FILE_MB="2"
    )
    yield service
    assert service.stop() == 0, service.log.read_text()
    assert "Traceback" not in service.log.read_text()


@pytest.fixture
def worker(environment: dict[str, str], tmp_path: Path) -> Iterator[WorkerProcess]:
    process = WorkerProcess({**environment, "OCRFLEET_ROOTS": str(tmp_path / "shared")}, tmp_path / "worker.log")
    yield process
    process.stop()


def picture(width: int = 240, height: int = 160) -> bytes:
    buffer = io.BytesIO()
    text_image(width, height).save(buffer, "JPEG")
    return buffer.getvalue()


def test_from_upload_to_download(served: Served, worker: WorkerProcess, tmp_path: Path) -> None:
    """A folder with a broken file and a PDF, told by events, in every format; then again, then away."""
    status, _, body = served.ask("POST", "/api/v1/detect", picture(), JPEG)
    record = json.loads(body)
    assert status == 200 and record["status"] == "ok" and record["boxes"] and record["width"] == 240
    wait_until(lambda: served.client().jobs() == [], seconds=10, what="what was answered to be removed")
    status, _, body = served.ask("POST", "/api/v1/detect?shape=polygon", picture(), JPEG)
    assert status == 200 and all(len(box["polygon"]) >= 3 for box in json.loads(body)["boxes"])
    assert served.problem("POST", "/api/v1/detect?shape=circle", picture(), JPEG)[0] == 400
    installed = json.loads(served.ask("GET", "/api/v1/models")[2])
    assert any(model["chosen"] for model in installed["models"])
    assert isinstance(installed["readers"], list)

    paths = write_images(tmp_path / "in", 3)
    text_image(600, 800).save(tmp_path / "in" / "letter.pdf", save_all=True, append_images=[text_image(600, 800)])
    (tmp_path / "in" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    (tmp_path / "in" / "empty.png").touch()
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    job = served.client().submit(sorted((tmp_path / "in").iterdir()), limit_side=640)
    events = list(job.events())
    last = events[-1]
    assert [last[key] for key in ("state", "total", "ok", "failed")] == ["done", 6, 5, 1]
    assert last["limit_side"] == 640 and set(last["skipped"]) == {"empty.png", "notes.txt"}
    records = list(job.results())
    assert sorted(record.index for record in records) == list(range(6))
    assert {record.image for record in records} == {*(path.name for path in paths), "letter.pdf", "torn.jpg"}
    failures = {failure["image"]: failure for failure in job.failures()}
    assert set(failures) == {"torn.jpg", "empty.png", "notes.txt"}
    assert failures["torn.jpg"]["type"] == "CorruptImage"
    assert str(tmp_path) not in json.dumps(list(failures.values()))  # nobody learns where our folder lies

    coco = json.loads(job.download("coco", tmp_path / "coco.json").read_text())
    assert len(coco["images"]) == 5 and len(coco["annotations"]) == sum(len(record.boxes) for record in records)
    tasks = json.loads(job.download("labelstudio", tmp_path / "ls.json").read_text())
    pictures = {task["data"]["image"].removeprefix("/data/local-files/?d=") for task in tasks}
    assert pictures == {*(path.name for path in paths), "letter.pdf"}  # as they were uploaded
    table = job.download("csv", tmp_path / "a.csv").read_text()
    assert table.count("torn.jpg") >= 1 and str(tmp_path) not in table
    for name, ending in (("icdar", ".txt"), ("pagexml", ".xml")):
        with zipfile.ZipFile(job.download(name, tmp_path / "x.zip")) as bundle:
            assert bundle.testzip() is None
            assert sum(entry.endswith(ending) for entry in bundle.namelist()) == 5
    exports = served.folder / "exports"
    wait_until(lambda: list(exports.iterdir()) == [], seconds=5, what="converted files to be removed")

    (served.folder / "jobs" / job.name / "upload" / "torn.jpg").write_bytes(picture())  # as if a disk had been mended
    assert job.retry()["retried"] == 1
    assert job.wait()["failed"] == 0
    assert sorted(record.index for record in job.results() if record.status == "ok") == list(range(6))
    job.delete()
    assert not (served.folder / "jobs" / job.name).exists()
    assert served.problem("GET", f"/api/v1/jobs/{job.name}")[0] == 404


def test_addresses_a_zip_and_the_same_key(served: Served, worker: WorkerProcess, tmp_path: Path) -> None:
    write_images(tmp_path / "shared" / "scans", 2)
    (tmp_path / "shared" / "scans" / "out.jpg").symlink_to(write_images(tmp_path / "secret", 1)[0])
    client = served.client()
    records = list(client.submit_addresses([f"file://{tmp_path}/shared/scans"]).results())
    assert [record.status for record in records] == ["ok", "ok"]  # the link out of the roots is not followed
    for address in (f"{tmp_path}/secret", f"{tmp_path}/shared/../secret", "/etc/passwd", "s3://bucket/a", "relative"):
        with pytest.raises(ClientError, match="OCRFLEET_ROOTS"):
            client.submit_addresses([address])

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("a/1.jpg", picture())
        bundle.writestr("../2.jpg", picture())
    (tmp_path / "pages.zip").write_bytes(buffer.getvalue())
    first = client.submit([tmp_path / "pages.zip"], key="once")
    assert sorted(record.image for record in first.results()) == ["pages.zip/2.jpg", "pages.zip/a/1.jpg"]
    again = client.submit([tmp_path / "pages.zip"], key="once")
    assert again.name == first.name and len(client.jobs()) == 2


def test_what_is_refused_and_how(served: Served) -> None:
    """No worker is needed for any of it, and nothing of it becomes a job."""
    jobs, detect = "/api/v1/jobs", "/api/v1/detect"
    assert served.problem("POST", detect, b"", JPEG)[0] == 415
    status, said = served.problem("POST", detect, b"hello", JPEG)
    assert status == 415 and "not an image" in said
    assert served.problem("POST", detect, picture(), {"Content-Type": "text/html"})[0] == 415
    assert served.problem("POST", detect, *form([("a.jpg", picture()), ("b.jpg", picture())]))[0] == 413
    assert served.problem("POST", detect, *form([("a.zip", b"PK\x03\x04")]))[0] == 415
    assert served.problem("POST", jobs, *form([]))[0] == 400
    assert (
        served.problem("POST", jobs, b"--BOUND\r\n", {"Content-Type": "multipart/form-data; boundary=BOUND"})[0] == 400
    )
    assert served.problem("POST", jobs, b"x", {"Content-Type": "multipart/form-data"})[0] == 400
    assert served.problem("POST", jobs, *form([(f"{n}.jpg", picture(64, 64)) for n in range(11)]))[0] == 413
    status, said = served.problem("POST", jobs, *form([("big.jpg", b"\xff\xd8\xff" + bytes(3 << 20))]))
    assert status == 413 and "OCRFLEET_WEB_MAX_FILE_MB" in said
    assert served.problem("POST", f"{detect}?limit_side=9", picture(), JPEG)[0] == 400
    for body in (b"{", b"[]", b'{"uris": 5}', b'{"uris": []}', b'{"uris": [1]}', b'{"x": 1}'):
        assert served.problem("POST", jobs, body, {"Content-Type": "application/json"})[0] == 400
    for path in ("/api/v1/jobs/..%2f..%2fetc", "/api/v1/jobs/none", "/api/v1/jobs/%00", "/api/v2", "/static/../app.py"):
        assert served.ask("GET", path)[0] in (404, 400), path
    assert served.problem("GET", f"{jobs}?limit=-1")[0] == 400
    assert served.problem("PUT", jobs)[0] == 405
    assert served.problem("GET", jobs, None, {"Host": "evil.example"})[0] == 421
    assert served.problem("POST", jobs, b"", {"Origin": "http://evil.example"})[0] == 403
    assert served.client().jobs() == []
    assert list((served.folder / "incoming").iterdir()) == []


def test_names_that_want_out_stay_inside(served: Served, tmp_path: Path) -> None:
    body, headers = form([("../../../evil.jpg", picture()), ("/etc/evil.jpg", picture()), (".ssh/evil.jpg", picture())])
    status, _, data = served.ask("POST", "/api/v1/jobs", body, headers)
    name = json.loads(data)["job"]
    upload = served.folder / "jobs" / name / "upload"
    assert status == 202 and len([path for path in upload.rglob("*.jpg") if path.is_file()]) == 3
    assert [path for path in tmp_path.rglob("evil.jpg") if not path.is_relative_to(upload)] == []
    assert upload.parent.parent.parent.stat().st_mode & 0o077 == 0
    wait_until(
        lambda: served.client().jobs()[0]["phase"].startswith("waiting for workers"),
        seconds=20,
        what="the service to say that no worker is alive",
    )
    assert served.ask("POST", f"/api/v1/jobs/{name}/cancel")[0] == 202
    wait_until(lambda: served.client().jobs()[0]["state"] == "cancelled", seconds=10, what="the end of the job")
    assert served.ask("DELETE", f"/api/v1/jobs/{name}")[0] == 204


WORDS = st.text(max_size=20) | st.sampled_from(["..", "%00", "1", "-1", "jsonl", "icdar", "9" * 30, "²", "a/b", "None"])
BODIES = st.binary(max_size=40) | st.sampled_from([b"", b"{}", b"[", b'{"uris": ["/"]}', form([("a", b"b")])[0]])
TYPES = st.sampled_from(["", "application/json", "image/png", "multipart/form-data; boundary=BOUND", "x", "image/"])


def test_no_request_is_a_bug_and_each_answer_is_described(served: Served) -> None:
    """Every operation of the OpenAPI document, with names, numbers and bodies that make no sense."""
    described = [
        (path, method, operation["responses"])
        for path, entry in document()["paths"].items()
        for method, operation in entry.items()
        if method != "parameters"
    ]
    seen = set()

    @settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(described), WORDS, st.dictionaries(WORDS, WORDS, max_size=2), WORDS, BODIES, TYPES)
    def ask(
        operation: tuple[str, str, dict[str, object]],
        job: str,
        query: dict[str, str],
        number: str,
        body: bytes,
        content_type: str,
    ) -> None:
        path, method, answers = operation
        target = path.replace("{job}", quote(job, safe=""))
        fields = urlencode({**query, "limit": number, "format": number, "from": number, "limit_side": number})
        headers = {"Content-Type": content_type, "Idempotency-Key": quote(job)} if method == "post" else {}
        status, _, data = served.ask(
            method.upper(), f"/api/v1{target}?{fields}", body if method == "post" else None, headers
        )
        seen.add(status)
        if len(target.split("/")) == len(path.split("/")):  # else the name was empty or held a slash: another path
            assert str(status) in answers or status in (404, 405), (method, target, fields, data[:300])
        assert status < 500

    ask()
    assert {200, 400, 404, 415} <= seen


@pytest.mark.slow
def test_slow_and_endless_clients_are_sent_away(served: Served) -> None:
    began = time.monotonic()
    answers: list[bytes] = []

    def talk(start: bytes, more: bytes) -> None:
        with socket.create_connection(("127.0.0.1", served.port), timeout=60) as line:
            line.sendall(start)
            if b"/healthz" in start:
                first = line.recv(65536)
                while not first.endswith(b"}"):
                    first += line.recv(65536)
                assert first.startswith(b"HTTP/1.1 200")
                line.sendall(b"GET /healthz HTTP/1.1\r\nHo")  # the second one never ends
            while time.monotonic() - began < 40:
                try:
                    if more:
                        line.sendall(more)
                    line.settimeout(0.5 if more != CHUNK else 0.001)
                    answers.append(line.recv(65536).split(b"\r\n")[0] or b"closed")
                    return
                except TimeoutError:
                    continue
                except OSError:
                    answers.append(b"closed")
                    return

    CHUNK = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    post = b"POST /api/v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
    talks = [
        (b"GET / HTT", b""),  # header lines that never end
        # Before: these two held their place for ever, without knowing the token; 256 of them kept all others out.
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
        (b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\ntok", b""),
        (post + b"Content-Length: 100000\r\n\r\n", b"x"),  # a byte now and then
        (post + b"Transfer-Encoding: chunked\r\n\r\n", CHUNK),  # no end
    ]
    threads = [threading.Thread(target=talk, args=arguments) for arguments in talks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer[:12] for answer in answers) == sorted(
        [b"HTTP/1.1 400", b"HTTP/1.1 408", b"HTTP/1.1 408", b"HTTP/1.1 413", b"closed"]
    )
    assert time.monotonic() - began < 30
    assert served.ask("GET", "/healthz")[0] == 200


def test_a_token_for_others(environment: dict[str, str], client: object, tmp_path: Path) -> None:
    refused = command(environment, "ocr-producer", "serve", "--host", "0.0.0.0", "--folder", tmp_path / "web")
    assert refused.returncode == 2 and "OCRFLEET_WEB_TOKEN" in refused.stderr
    token, halves = "a-token-of-enough-characters", list[socket.socket]()
    served = Served(environment, tmp_path / "web", TOKEN=token, inside=partial(setrlimit, RLIMIT_NOFILE, (512, 512)))
    try:
        assert served.problem("GET", "/api/v1/jobs")[0] == 401
        assert served.client(token).jobs() == []
        status, headers, _ = served.ask("POST", "/login", f"token={token}".encode())
        assert (
            status == 303 and "HttpOnly" in headers["set-cookie"] and "samesite=strict" in headers["set-cookie"].lower()
        )
        cookie = headers["set-cookie"].partition(";")[0]
        assert served.ask("GET", "/api/v1/jobs", None, {"Cookie": cookie})[0] == 200
        status, headers, _ = served.ask("POST", "/login", b"token=wrong")
        assert status == 303 and "set-cookie" not in headers
        # Before: these had all files of the page, so that jobs met "Too many open files", and kept everybody out.
        keeping = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
        halves = []
        for _ in range(4):
            keeping.request("GET", "/api/v1/jobs", headers={"Cookie": cookie})
            assert keeping.getresponse().read() == b'{"jobs":[],"next":null}'
            line = keeping.sock
            halves += [socket.create_connection(("127.0.0.1", served.port), timeout=10) for _ in range(200)]
            for half in halves[-200:]:
                half.sendall(b"GET / HTTP/1.1\r\nX: ")
            assert served.ask("GET", "/healthz")[0] == 200
            assert served.ask("GET", "/api/v1/jobs", None, {"Cookie": cookie})[0] == 200
            assert keeping.sock is line
            assert len(list(Path(f"/proc/{served.process.pid}/fd").iterdir())) < 512 // 4 + 50
        assert token not in served.log.read_text()
    finally:
        served.stop()
        for half in halves:
            half.close()


def test_the_broker_is_away(environment: dict[str, str], client: object, tmp_path: Path) -> None:
    gone = command(
        {**environment, "OCRFLEET_REDIS_URL": "redis://127.0.0.1:1/0"},
        "ocr-producer",
        "serve",
        "--folder",
        tmp_path / "w",
    )
    assert gone.returncode == 3
