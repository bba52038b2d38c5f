"""A client of the service in Python, without libraries: ``from producer import Client``."""

from __future__ import annotations

import http.client
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from detector.atomic import atomic_write
from detector.errors import read_json
from detector.http.few_headers import HTTPConnection, HTTPSConnection
from detector.record import ImageRecord
from producer.errors import ProducerError

BASE = "/api/v1"
BLOCK = 1 << 16
TIMEOUT_S = 60.0
POLL_S = 0.3
PATIENCE_S = 120.0
"""How long a busy service (429, 503) is asked again."""


class ClientError(ProducerError):
    """The service refuses, or does not answer. The message holds its reason and the remedy.

    Attributes:
        status: of the answer; 0 if there was none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """A service.

    Example::

        for record in Client("http://127.0.0.1:8600").submit(["scan.pdf", "photo.jpg"]).results():
            print(record.image, record.page, len(record.boxes))
    """

    def __init__(self, url: str = "http://127.0.0.1:8600", token: str = "") -> None:  # nosec B107: none
        """Connect nothing yet.

        Args:
            url: where it listens.
            token: what it wants to be told; default: OCRFLEET_WEB_TOKEN.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ClientError(f"{url}: not an http:// or https:// address")
        self._parts = parts
        self._headers = {"Authorization": f"Bearer {token}"} if (token := token or _token()) else {}

    def detect(self, path: str | Path, *, limit_side: int = 0) -> ImageRecord:
        """The record of one image. Waits for it as long as it takes.

        Raises:
            ClientError: it is nothing that can be read, or has several pages.
        """
        path = Path(path)
        target = f"{BASE}/detect?name={quote(path.name)}" + (f"&limit_side={limit_side}" if limit_side else "")
        answer = self._send("POST", target, [path], headers={"Content-Type": "application/octet-stream"})
        if answer.status == 200:
            return msgspec.json.decode(_body(answer), type=ImageRecord)
        job = Job(self, read_json(_body(answer))["job"])
        records = list(job.results())
        if len(records) != 1:
            raise ClientError(f"{path}: {len(records)} pages; use submit() (job {job.name})")
        job.delete()
        return records[0]

    def submit(self, paths: Iterable[str | Path], *, limit_side: int = 0, key: str = "", webhook: str = "") -> Job:
        """Send files as one job. Sent again after a lost connection, they are still one job.

        Args:
            paths: images, PDFs, zips.
            limit_side: long side the network sees at most, pixels; 0 leaves it to the workers.
            key: the same key with the same files gives the same job; default: a new one.
            webhook: an address that the service tells when the job has ended (OCRFLEET_WEBHOOK_HOSTS).
        """
        fields = ({"limit_side": str(limit_side)} if limit_side else {}) | ({"webhook": webhook} if webhook else {})
        form = _Form([Path(path) for path in paths], fields)
        headers = {"Content-Type": form.content_type, "Idempotency-Key": key or str(uuid.uuid4())}
        return Job(self, read_json(_body(self._send("POST", f"{BASE}/jobs", form.parts, headers=headers)))["job"])

    def submit_addresses(self, uris: Sequence[str], *, limit_side: int = 0) -> Job:
        """A job of what lies below the service's OCRFLEET_ROOTS."""
        body = json.dumps({"uris": list(uris)} | ({"limit_side": limit_side} if limit_side else {})).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        return Job(self, read_json(_body(self._send("POST", f"{BASE}/jobs", [body], headers=headers)))["job"])

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, newest first."""
        return list(self.listed("jobs", "/jobs"))

    def listed(self, name: str, path: str) -> Iterator[dict[str, Any]]:
        """Each entry of a list, which may take several answers."""
        following: str | None = "limit=1000"
        while following:
            found = self.call("GET", f"{path}?{following}")
            yield from found[name]
            following = found.get("next")  # 0.1.0 has none

    def call(self, method: str, path: str) -> dict[str, Any]:
        """One request without a body; its JSON."""
        data = _body(self._send(method, BASE + path))
        found: dict[str, Any] = read_json(data) if data else {}
        return found

    def stream(self, path: str) -> Iterator[bytes]:
        """The body of an answer, in blocks.

        Raises:
            ClientError: it is cut off, as that of a slow reader is while others wait.
        """
        return _blocks_of(self._send("GET", BASE + path))

    def _send(
        self, method: str, target: str, parts: Sequence[bytes | Path] = (), *, headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        give_up = time.monotonic() + PATIENCE_S
        while True:
            answer = self._send_once(method, target, parts, headers or {})
            if answer.status < 400:
                return answer
            wait = answer.getheader("Retry-After", "")
            if answer.status in (429, 503) and wait.isdecimal() and time.monotonic() < give_up:
                time.sleep(min(int(wait), 5))
                continue
            raise _refusal(answer)

    def _send_once(
        self, method: str, target: str, parts: Sequence[bytes | Path], headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        kind = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=TIMEOUT_S)
        length = {"Content-Length": str(sum(map(_size, parts)))} if method == "POST" else {}
        try:
            try:
                body = _blocks(parts) if parts else None
                prefix = self._parts.path.rstrip("/")
                connection.request(method, prefix + target, body, {**self._headers, **headers, **length})
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before all was sent: the answer is there
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise ClientError(f"{self._parts.geturl()} does not answer: {error}; is `ocr-producer serve` up?") from None


def _blocks_of(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while block := answer.read1(BLOCK):
            yield block
    except (OSError, http.client.HTTPException) as error:
        raise ClientError(f"the answer was cut off ({error or type(error).__name__}); ask again") from None
    if answer.length:  # http.client takes the line's end for the answer's
        raise ClientError(f"the answer was cut off, {answer.length} bytes before its end; ask again")


def _body(answer: http.client.HTTPResponse) -> bytes:
    return b"".join(_blocks_of(answer))


class Job:
    """A job of a service.

    Attributes:
        name: its name there.
    """

    def __init__(self, client: Client, name: str) -> None:
        self.name = name
        self._client = client

    def status(self) -> dict[str, Any]:
        """How it stands (GET /jobs/{job})."""
        return self._client.call("GET", f"/jobs/{self.name}")

    def wait(self, timeout_s: float = 3600.0) -> dict[str, Any]:
        """Wait for its end; its last status.

        Raises:
            ClientError: it was refused, or takes longer.
        """
        deadline = time.monotonic() + timeout_s
        while (status := self.status())["state"] in ("open", "preparing"):
            if time.monotonic() > deadline:
                raise ClientError(f"job {self.name} takes longer than {timeout_s:g} s ({status['phase']})")
            time.sleep(POLL_S)
        if status["state"] == "refused":
            raise ClientError(f"job {self.name} was refused: {status['reason']}", 422)
        return status

    def events(self) -> Iterator[dict[str, Any]]:
        """Its status at each change, until its end. Asks again where others took its place meanwhile."""
        last = b""
        while True:
            waiting = b""
            for block in self._client.stream(f"/jobs/{self.name}/events"):
                *events, waiting = (waiting + block).split(b"\n\n")
                for event in events:
                    if event.startswith((b"event: end", b"event: gone")):
                        return
                    if event.startswith(b"data: ") and event != last:
                        last = event
                        yield read_json(event.removeprefix(b"data: "))
            time.sleep(POLL_S)

    def results(self) -> Iterator[ImageRecord]:
        """Its records, once it has ended."""
        self.wait()
        decoder, waiting = msgspec.json.Decoder(ImageRecord), b""
        for block in self._client.stream(f"/jobs/{self.name}/results?format=jsonl"):
            *lines, waiting = (waiting + block).split(b"\n")
            yield from map(decoder.decode, lines)
        if waiting:
            raise ClientError("the answer was cut off amid a line; ask again")

    def download(self, format_name: str, to: str | Path) -> Path:
        """Its results in a format, as a file (icdar and pagexml: a zip)."""
        target = Path(to)
        with atomic_write(target) as part, part.open("wb") as stream:
            for block in self._client.stream(f"/jobs/{self.name}/results?format={format_name}"):
                stream.write(block)
        return target

    def failures(self) -> list[dict[str, Any]]:
        """What failed, and why."""
        return list(self._client.listed("failures", f"/jobs/{self.name}/failures"))

    def retry(self) -> dict[str, Any]:
        """Do its failed pages again."""
        return self._client.call("POST", f"/jobs/{self.name}/retry")

    def cancel(self) -> dict[str, Any]:
        """Stop it; what is done stays."""
        return self._client.call("POST", f"/jobs/{self.name}/cancel")

    def delete(self) -> None:
        """Remove it there."""
        self._client.call("DELETE", f"/jobs/{self.name}")


class _Form:
    """multipart/form-data, which is read from the files while it is sent."""

    def __init__(self, paths: Sequence[Path], fields: Mapping[str, str]) -> None:
        boundary = uuid.uuid4().hex
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.parts: list[bytes | Path] = []
        begin = f"--{boundary}\r\nContent-Disposition: form-data; name="
        for name, value in fields.items():
            self.parts.append(f'{begin}"{name}"\r\n\r\n{value}\r\n'.encode())
        for path in paths:
            shown = path.name.replace('"', "%22").replace("\r", "_").replace("\n", "_")
            self.parts += [f'{begin}"files"; filename="{shown}"\r\n\r\n'.encode(), path, b"\r\n"]
        self.parts.append(f"--{boundary}--\r\n".encode())


def _size(part: bytes | Path) -> int:
    return len(part) if isinstance(part, bytes) else part.stat().st_size


def _blocks(parts: Sequence[bytes | Path]) -> Iterator[bytes]:
    for part in parts:
        if isinstance(part, bytes):
            yield part
            continue
        with part.open("rb") as stream:
            while block := stream.read(BLOCK):
                yield block


def _token() -> str:
    return os.environ.get("OCRFLEET_WEB_TOKEN", "")


def _refusal(answer: http.client.HTTPResponse) -> ClientError:
    try:
        problem = read_json(answer.read())
        text = ": ".join(filter(None, (problem["detail"], problem["remedy"])))
    except (ValueError, KeyError, TypeError, http.client.HTTPException):
        text = f"HTTP {answer.status}"
    return ClientError(text, answer.status)
