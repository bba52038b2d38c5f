"""A web site whose name was made to mean 127.0.0.1 reads nothing from a Flower without a password."""

from __future__ import annotations

import http.client
import subprocess
import sys
from pathlib import Path

import pytest

from detector.http.own_name import is_own_name
from tests.ports import free_port
from tests.processes import wait_until


@pytest.mark.parametrize("name", ["127.0.0.1", "LOCALHOST", "localhost.", "ocr.localhost", "[::1]", "10.0.0.7"])
def test_own(name: str) -> None:
    assert is_own_name(name)


@pytest.mark.parametrize(
    "name", ["evil.test", "127.0.0.1.evil.test", "localhost.evil.test", "", "0x7f.1", "notlocalhost"]
)
def test_foreign(name: str) -> None:
    assert not is_own_name(name)


def _ask(port: int, host: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


@pytest.mark.slow
def test_flower(environment: dict[str, str], tmp_path: Path) -> None:
    environment.pop("FLOWER_BASIC_AUTH", None)  # with one: tests/fleet/test_flower.py
    port = free_port()
    with (tmp_path / "flower.log").open("wb") as log:
        # As README has it, without our own command in between.
        program = [sys.executable, "-m", "celery", "-A", "worker.app", "flower", f"--port={port}"]
        flower = subprocess.Popen(program, env=environment, stdout=log, stderr=log, cwd=tmp_path)
    try:
        wait_until(lambda: _ask(port, "127.0.0.1", "/healthcheck")[0] == 200, seconds=60, what="Flower to listen")
        assert _ask(port, f"localhost:{port}", "/tasks")[0] == 200
        status, told = _ask(port, f"evil.test:{port}", "/tasks")
        assert status == 421
        assert "FLOWER_BASIC_AUTH" in told
        assert _ask(port, "evil.test", "/metrics")[0] == 421
    finally:
        flower.terminate()
        flower.wait()
