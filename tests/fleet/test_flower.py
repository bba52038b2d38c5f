"""Flower as a person sees it: a login, then tasks, a worker and the broker with real data, in a real browser.

The pictures in docs/ come from here: ``OCRFLEET_PICTURES=docs pytest tests/fleet/test_flower.py``.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from celery import Celery

from tests.pictures import text_image, write_images
from tests.ports import free_port
from tests.processes import WorkerProcess, command, wait_until
from tests.redis_users import ServerWithUsers, server_with_users
from tests.tools import tool
from worker.app import DETECT_TASK, configuration
from worker.settings import read_settings

USER, PASSWORD = "keeper", "of-the-fleet"
COUNT = 12


class Browser:
    """Headless Chromium."""

    def __init__(self, folder: Path, port: int) -> None:
        binary = tool("chromium", "apt-get install chromium")
        self._command = [
            binary, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
            "--disable-dev-shm-usage", f"--user-data-dir={folder / 'profile'}", "--window-size=1500,820",
            # Until every script of the page has had ten seconds, which pass at once.
            "--virtual-time-budget=10000",
        ]  # fmt: skip
        self._port = port

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([*self._command, *arguments], capture_output=True, text=True, timeout=90)
        return done.stdout

    def _address(self, path: str, login: bool) -> str:
        return f"http://{f'{USER}:{PASSWORD}@' if login else ''}127.0.0.1:{self._port}{path}"

    def text(self, path: str, *, login: bool = True, picture: Path | None = None) -> str:
        """The page's HTML after its scripts ran, and a screenshot if that is asked: each start takes a second."""
        shot = [] if picture is None else [f"--screenshot={picture}"]
        found = self._run("--dump-dom", *shot, self._address(path, login))
        assert picture is None or picture.stat().st_size > 20_000
        return found


@pytest.fixture
def users(tmp_path: Path) -> Iterator[ServerWithUsers]:
    with server_with_users(tmp_path, port=free_port()) as server:
        yield server


def of(users: ServerWithUsers, role: str, environment: dict[str, str]) -> dict[str, str]:
    port = users.client("admin").info("server")["tcp_port"]
    return {**environment, "OCRFLEET_REDIS_URL": f"redis://{role}:of-the-{role}@127.0.0.1:{port}/0"}


@pytest.fixture
def worker_process(environment: dict[str, str], users: ServerWithUsers, tmp_path: Path) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(of(users, "worker", environment), tmp_path / "worker.log")
    yield worker
    worker.stop()


@pytest.fixture
def port(
    environment: dict[str, str], users: ServerWithUsers, worker_process: WorkerProcess, tmp_path: Path
) -> Iterator[int]:
    """Flower on a port, with a worker that has just done a job: twelve pictures and a broken one."""
    number = free_port()
    folder = tmp_path / "receipts"
    write_images(folder, COUNT - 2)
    text_image(1654, 2339, "LETTER").save(folder / "letter.pdf", resolution=200)
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    with (tmp_path / "flower.log").open("wb") as log:
        flower = subprocess.Popen(
            [sys.executable, "-m", "worker.cli", "flower", "--port", str(number), "--db", tmp_path / "flower.db"],
            env={**of(users, "hub", environment), "FLOWER_BASIC_AUTH": f"{USER}:{PASSWORD}"},
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: ask(number, "/api/workers?refresh=1"), seconds=60, what="Flower to see the worker")
        assert psutil.Process(flower.pid).rlimit(psutil.RLIMIT_DATA)[0] < 1 << 30
        producer = of(users, "producer", environment)
        command(producer, "ocr-producer", "enqueue", folder, "--job", "receipts", "--watch", "-q")
        wait_until(lambda: len(ask(number, "/api/tasks")) >= COUNT, seconds=20, what="Flower to know every task")
        yield number
    finally:
        flower.terminate()
        flower.wait()


def ask(port: int, path: str) -> dict[str, object]:
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Basic {login}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except OSError:
        return {}


@pytest.mark.slow
def test_login_and_three_pages(
    port: int, worker_process: WorkerProcess, environment: dict[str, str], users: ServerWithUsers, tmp_path: Path
) -> None:
    for path in ("/", "/tasks", "/workers", "/broker", "/api/tasks", "/api/workers", "/metrics"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10)
        assert refused.value.code == 401, path
    # Behind a proxy it has a name of its own, which the login guards.
    named = urllib.request.Request(f"http://127.0.0.1:{port}/healthcheck", headers={"Host": "ocr.example.org"})
    with urllib.request.urlopen(named, timeout=10) as answer:
        assert answer.status == 200
    browser = Browser(tmp_path, port)
    assert "image-0001.jpg" not in browser.text("/tasks", login=False)

    tasks = browser.text("/tasks")
    assert "image-0001.jpg" in tasks and "page 0 of job receipts" in tasks
    assert " box" in tasks and "SUCCESS" in tasks
    assert "failed: CorruptImage" in tasks
    shout(of(users, "worker", environment))
    wait_until(lambda: "of-nobody" in ask(port, "/api/tasks"), seconds=20, what="Flower to hear of it")
    to = Path(os.environ.get("OCRFLEET_PICTURES", tmp_path))
    to.mkdir(exist_ok=True)
    for path, picture in (("/tasks", to / "flower-tasks.png"), ("/", None)):
        page = browser.text(path, picture=picture)
        assert "<img src=x" not in page and "taken-over" not in page.partition("</title>")[0]
    name = next(name for name in ask(port, "/api/workers") if name != "nobody@nowhere")
    page = browser.text(f"/worker/{name}", picture=to / "flower-worker.png")
    assert name in page and "prefork" in page

    # Images that wait: the worker leaves, a job comes.
    worker_process.stop()
    producer = of(users, "producer", environment)
    waiting = command(producer, "ocr-producer", "enqueue", tmp_path / "receipts", "--job", "later", "-q")
    assert waiting.returncode == 0
    broker = browser.text("/broker", picture=to / "flower-broker.png")
    assert "ocrfleet" in broker and f">{COUNT}<" in broker.replace(" ", "").replace("\n", "")
    assert users.client("admin").acl_log() == [], "none of them asked for what its role may not"


def shout(environment: dict[str, str]) -> None:
    """What whoever has a password of the fleet may tell Flower. Before: it ran in the browser of whoever looked."""
    tag = """<img src=x onerror="document.title='taken-over'">"""
    fleet = Celery(set_as_current=False)
    fleet.conf.update(configuration(read_settings(environment)))
    with fleet.connection() as connection:
        tell = fleet.events.Dispatcher(connection, hostname="nobody@nowhere").send
        tell("worker-heartbeat", freq=2, active=tag, processed=tag)
        tell("task-received", uuid="of-nobody", name=DETECT_TASK, args=[tag], kwargs={"a": tag}, retries=0)
        tell("task-succeeded", uuid="of-nobody", result=[tag], runtime=0.1)


def test_celerys_own_flower_command_listens_on_this_machine_alone(environment: dict[str, str], tmp_path: Path) -> None:
    """Before: it served every address without a password, and ran a flowerconfig.py of the current folder."""
    number = free_port()
    (tmp_path / "flowerconfig.py").write_text(f"open({str(tmp_path / 'taken')!r}, 'w')")
    with (tmp_path / "flower.log").open("wb") as log:
        flower = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "worker.app", "flower", f"--port={number}"],
            env=environment,
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: listeners(number) != set(), seconds=60, what="Flower to listen")
        assert listeners(number) == {"0100007F"}  # 127.0.0.1, as /proc/net/tcp writes it
        assert not (tmp_path / "taken").exists()
        dropped = "an event that is none of Celery's was dropped"

        def heard() -> bool:
            shout(environment)  # again: it listens to the broker a moment later than to browsers
            return dropped in (tmp_path / "flower.log").read_text()

        wait_until(heard, seconds=20, what="it to be heard")
    finally:
        flower.terminate()
        flower.wait(30)


def listeners(port: int) -> set[str]:
    """Local addresses, in hexadecimal, of sockets that listen on a port (state 0A)."""
    rows = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()]
    local = [row[1].split(":") for row in rows if row[3] == "0A"]
    return {address for address, hexadecimal in local if int(hexadecimal, 16) == port}
