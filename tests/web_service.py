"""`ocr-producer serve` as a process of its own, and requests to it as a stranger would send them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from producer import Client
from tests.ports import free_port
from tests.processes import wait_until
from tests.web_schema import check_answer


class Served:
    """The service on a port of this machine."""

    def __init__(
        self,
        environment: dict[str, str],
        folder: Path,
        *arguments: str,
        inside: Callable[[], None] | None = None,
        **settings: str,
    ) -> None:
        """Start it. ``inside`` runs in the new process first, to put it into a cgroup."""
        self._environment = {**environment, **{f"OCRFLEET_WEB_{name}": value for name, value in settings.items()}}
        self._arguments = arguments
        self._inside = inside
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder.with_name(f"{folder.name}.log")
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "producer.cli", "serve", "--port", str(self.port), "--folder", self.folder]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self._arguments],
                env=self._environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=self._inside,
            )
        wait_until(self.answers, seconds=60, what=f"the service to listen: {self.log.read_text()[-2000:]}")

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return self.ask("GET", "/healthz")[0] == 200
        except OSError:
            return False

    def client(self, token: str = "") -> Client:
        return Client(self.url, token)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer, which is as the OpenAPI document has it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        status, said, data = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        check_answer(method, path, status, said, data)
        return status, said, data

    def problem(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        """Status and text of a refusal, which must be problem details with a remedy."""
        status, said, data = self.ask(method, path, body, headers)
        assert said["content-type"] == "application/problem+json", data[:500]
        found = json.loads(data)
        assert found["status"] == status and found["detail"] and "Traceback" not in found["detail"]
        return status, f"{found['detail']}: {found['remedy']}"

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(40)
        return self.process.returncode


def form(files: list[tuple[str, bytes]]) -> tuple[bytes, dict[str, str]]:
    """multipart/form-data with file names as they are, also bad ones."""
    parts = [
        b'--BOUND\r\nContent-Disposition: form-data; name="files"; filename="' + name.encode() + b'"\r\n\r\n' + data
        for name, data in files
    ]
    body = b"\r\n".join([*parts, b"--BOUND--\r\n"])
    return body, {"Content-Type": "multipart/form-data; boundary=BOUND"}
