"""What each of several local workers may use."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from detector.errors import is_out_of_processes
from detector.machine import Machine
from producer.job.output_folder import JobRequest, OutputFolder
from producer.local.fleet import LocalFleet, LocalFleetError, memory_share_mb
from producer.local.server import EmbeddedServer, NoEmbeddedServerError
from tests.worker.test_machine_faults import full_disk
from worker.app import app_for
from worker.broker import queue
from worker.broker.connection import connect
from worker.cli import main
from worker.messages import ImageTask
from worker.settings import Settings


@pytest.mark.parametrize(
    ("profile", "workers", "memory_mb", "expected"),
    [
        ("auto", 1, 512, 256),  # the low profile's own limit fits
        ("auto", 2, 512, 153),
        ("auto", 2, 24_000, 512),
        ("accurate", 4, 2048, 436),
        ("low", 1, 64, 1),  # hopeless, but it does not break
    ],
)
def test_workers_share_the_machine(profile: str, workers: int, memory_mb: int, expected: int) -> None:
    assert memory_share_mb(profile, workers, Machine(2, memory_mb, "cgroup")) == expected


def test_a_spool_of_another_users_is_said_before_the_first_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: every page of an archive was tried three times, and failed as of a full disk."""
    spool = tmp_path / "spool" / "ocrfleet-spool"
    spool.mkdir(parents=True)
    os.chown(spool, 12345, -1)
    monkeypatch.setenv("OCRFLEET_SPOOL_DIR", str(tmp_path / "spool"))
    fleet = LocalFleet(OutputFolder(tmp_path / "out"), JobRequest(job="job", sources=["in"]))
    with pytest.raises(LocalFleetError, match=r"ocrfleet-spool: is not a folder of this user's; remove it"):
        fleet.start_workers()
    monkeypatch.setenv("OCRFLEET_REDIS_URL", "unix:///nowhere")
    started = CliRunner().invoke(main, ["start"])
    assert started.exit_code == 1 and "ocrfleet-spool: is not a folder of this user's" in started.output


@pytest.mark.parametrize(("mode", "length"), [(0o777, 90), (0o1777, 90), (0o777, 3)])
def test_no_socket_lies_where_others_rename_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, length: int
) -> None:
    """Before: below a TMPDIR of one's own that is long, or long in bytes, in an open /tmp, without a word."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        own, system = Path(short) / ("é" * (length // 2)), Path(short) / "all"
        for folder in (own, system):
            folder.mkdir()
        system.chmod(mode)
        monkeypatch.setattr(tempfile, "tempdir", str(own))
        monkeypatch.setattr("producer.local.server.SYSTEMS_TEMPORARY", (str(system),))
        if mode == 0o777 and length == 90:
            with pytest.raises(NoEmbeddedServerError, match=f"others can write into {system}: set TMPDIR to a folder"):
                EmbeddedServer(tmp_path)
            assert list(system.iterdir()) == []
        else:
            made = EmbeddedServer(tmp_path).socket
            assert made.parents[1] == (system if length == 90 else own) and len(os.fsencode(made)) <= 107


def test_a_server_that_may_not_write_says_so(tmp_path: Path) -> None:
    """Before: "no log", or the job "forgotten, or expired": SIGXFSZ had ended it, and its data seemed damaged."""
    server = EmbeddedServer(tmp_path / "server")
    try:
        with full_disk(), pytest.raises(OSError, match="File too large") as caught:
            server.start()
        assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "server"))
    finally:
        server.stop()


def test_a_server_that_may_start_no_thread_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ulimit -u` binds no root, so the server is one that says what Valkey says then."""
    program, said = tmp_path / "program", f"Fatal: Can't initialize Background Jobs: {os.strerror(errno.EAGAIN)}"
    program.write_text(f"#!/bin/sh\necho \"{said}\" > '{tmp_path}/data/server.log'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr("producer.local.server.server_binary", lambda: program)
    server = EmbeddedServer(tmp_path / "data")
    with pytest.raises(BlockingIOError, match="Background Jobs") as caught:
        server.start()
    assert is_out_of_processes(caught.value)


def test_too_few_processes_are_said_before_the_first_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: `run` under `ulimit -u 10` tried each page three times, 30 s each."""
    started = []

    def start(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)

    monkeypatch.setenv("OCRFLEET_SPOOL_DIR", str(tmp_path / "spool"))
    fleet = LocalFleet(OutputFolder(tmp_path / "out"), JobRequest(job="job", sources=["in"]))
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="new thread"):
        patch.setattr(threading.Thread, "start", start)
        fleet.start_workers()
    assert [worker.process for worker in fleet.workers] == [None]


@pytest.mark.slow
def test_a_second_server_of_one_process_gets_its_pages(tmp_path: Path, settings: Settings) -> None:
    """Before: they went to the first one's, which was gone, for 10 s each time; a watched folder's later bundles
    waited until the reconciler missed them."""
    for number in range(2):
        server = EmbeddedServer(tmp_path / str(number))
        server.start()
        try:
            current = replace(settings, redis_url=server.url)
            app = app_for(current)
            app.conf.update(broker_connection_timeout=0.2, task_publish_retry=False)
            queue.send(app, ImageTask(job="j", index=number, image="a", uri="file:///a"))
            with closing(connect(current)) as client:
                assert queue.queued_ids(client) == {f"j:{number}"}
        finally:
            server.stop()
    app_for(settings)
