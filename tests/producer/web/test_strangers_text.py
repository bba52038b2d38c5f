"""Text that strangers choose: half characters, names that no file system takes, ends of lines."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.requests import Request

from detector.cli.say import PrintableFormatter
from producer.web import addresses
from producer.web.addresses import check_addresses
from producer.web.api import _Addresses
from producer.web.models import Exporter
from producer.web.problem import Problem
from producer.web.visitors.json_body import json_body


@pytest.mark.parametrize(
    "body",
    [
        rb'{"uris": ["\ud800"]}',
        rb'{"uris": ["/roots/\udc80"]}',
        rb'{"shape": "\ud800x"}',
        rb'{"uris": ["\udc80\ud800"]}',
    ],
)
def test_half_a_character_is_no_json(body: bytes) -> None:
    """Before: 500 and a traceback, since no answer could name it."""

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    service = SimpleNamespace(web=SimpleNamespace(idle_s=5.0))
    scope = {"type": "http", "app": SimpleNamespace(state=SimpleNamespace(service=service))}

    async def read() -> None:
        async with json_body(Request(scope, receive), _Addresses):
            pass

    with pytest.raises(Problem) as refused:
        asyncio.run(read())
    assert refused.value.status == 400


@pytest.mark.parametrize("name", ["a" * 5000, "/".join(["a" * 200] * 50), "circle/a.png"])
def test_a_name_that_no_file_system_takes_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(Problem) as refused:
        check_addresses([str(tmp_path / name)], (tmp_path,), ())
    assert refused.value.status in (403, 404)


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """A picture below a root; beside the root, links to folders of three depths, and one to the root."""
    (tmp_path / "roots" / "in").mkdir(parents=True)
    (tmp_path / "roots" / "in" / "a.webp").touch()
    (tmp_path / "deep" / "er" / "est").mkdir(parents=True)
    for depth, target in enumerate(("deep", "deep/er", "deep/er/est")):
        (tmp_path / f"link{depth}").symlink_to(tmp_path / target)
    (tmp_path / "data").symlink_to(tmp_path / "roots")
    return tmp_path / "roots" / "in" / "a.webp"


def status_of(address: str, *, root: Path, named: Path | None = None) -> int:
    try:
        [found] = check_addresses([address], (root,), (), (named,) if named else ())
    except Problem as refused:
        return refused.status
    assert found == str(root / "in" / "a.webp")
    return 200


@pytest.mark.parametrize("form", ["{}", "file://{}", "//{}"])
@pytest.mark.parametrize("up", ["../", "./../", "..//", "%2e%2e/", ".%2E/"])
def test_no_address_tells_of_links_elsewhere(form: str, up: str, known: Path, tmp_path: Path) -> None:
    """Before: which `LINK/../../..(n)/roots/a` lay below a root told that LINK is there, and how deep it leads."""
    depth, root = len(known.parts) - 1, tmp_path / "roots"
    for place in ("link0", "link1", "link2", "nothing", "roots", "roots/in", "data"):
        told = {
            status_of(form.format(f"{tmp_path}/{place}/{up * count}{known.relative_to('/')}"), root=root)
            for count in range(1, depth + 4)
        }
        assert told <= {403, 404} and (told == {403} or "%" in up), place


def test_what_is_below_no_root_is_not_touched(known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead network folder elsewhere would keep one of forty threads."""
    root, data = tmp_path / "roots", tmp_path / "data"
    monkeypatch.setattr(addresses, "real_path", lambda path: pytest.fail(f"{path} was looked at"))
    for address in ("/etc/passwd", f"{tmp_path}/link0/a", f"{tmp_path}/rootsy/a", f"{data}/in/a.webp", "/", "file:///"):
        assert status_of(address, root=root) == 403
    monkeypatch.undo()
    for address in (known, data / "in" / "a.webp", f"/{known}", f"file://{data}/in/%61.webp", f"{root}/./in//a.webp"):
        assert status_of(str(address), root=root, named=data) == 200
    assert status_of(f"{data}/in/b.webp", root=root, named=data) == 404
    (root / "out").symlink_to("/etc")
    assert status_of(f"{root}/out/passwd", root=root) == 403


@pytest.mark.parametrize("name", ["m-320.part", "m", "320", "m-", "m-a", "m-٣٢٠", ".-320"])
def test_only_what_was_exported_is_an_export(name: str, tmp_path: Path) -> None:
    """Before: `m-320.part`, asked for while m was exported, was a 500."""
    exporter = Exporter(tmp_path)
    for there in (name, "m-320", "m-320.part"):
        (tmp_path / f"{there}.onnx").touch()
    with pytest.raises(Problem) as refused:
        exporter.status(name)
    assert refused.value.status == 404
    assert [export["export"] for export in exporter.all()] == ["m-320"]


LOGGING = r"""
import asyncio, logging, socket, uvicorn
from producer.web import server
from producer.web.bounds.form import Form
from producer.web.problem import Problem

server.log_to_stderr()
logging.getLogger("ocrfleet.web").warning("%s: gone", "a\x1b[31m\nERROR: all is lost")
logging.getLogger("uvicorn.error").warning("\x9b2J")

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})

async def main():
    config = uvicorn.Config(app, http=server.PatientProtocol, ws="none", lifespan="off", log_config=None)
    listening, running = socket.create_server(("127.0.0.1", 0)), uvicorn.Server(config)
    serving = asyncio.create_task(running._serve([listening]))
    upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    for text in [upgrade] * 50 + [b"x\r\n\r\n"] * 50:
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(text)
        print((await reader.read(12))[9:].decode())
        writer.close()
    running.should_exit = True
    await serving

asyncio.run(main())
for count in range(50):
    try:
        Form(None, b"b").write(b"--b" + b"x" * count + b"y")
    except Problem:
        pass
"""


def test_strangers_neither_forge_the_log_nor_fill_it() -> None:
    """Before: it had what came as it came; and 2 GB an hour of who has no token, by `Upgrade:`."""
    ran = subprocess.run([sys.executable, "-c", LOGGING], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["204"] * 50 + ["400"] * 50
    said = ran.stderr
    assert "\x1b" not in said and "\x9b" not in said
    assert said.startswith("WARNING: a") and "\nERROR" not in said and "gone" in said
    lines = said.splitlines()
    assert sum("Invalid HTTP" in line for line in lines) == 5 and not any("pgrade" in line for line in lines)
    assert len(lines) <= 15, "also where a library writes each as another"


def test_the_same_format_as_before() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, "said %s", ("this",), None)
    assert PrintableFormatter("%(levelname)s: %(message)s").format(record) == "INFO: said this"
