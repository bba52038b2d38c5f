"""A job that waits, for the disk, the broker or a collector, keeps nobody else from a place."""

from __future__ import annotations

import os
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from producer.web import runner, server
from producer.web.bounds.job_turns import JobTurns
from producer.web.runner import Runner
from producer.web.store import Store, WebJob
from worker.app import app_for
from worker.ledger import Ledger
from worker.settings import Settings


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "web")


def accept(store: Store, name: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    assert store.accept(store.new_upload(), name, WebJob(created=time.time(), sources=[str(folder)]))


def test_jobs_that_wait_give_their_places_in_turn(
    ledger: Ledger, settings: Settings, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: as many as there are places kept all others out for as long as they waited."""
    monkeypatch.setattr(runner, "JOBS_AT_A_TIME", 2)
    monkeypatch.setattr(runner, "SOONER_S", 0.01)
    monkeypatch.setattr(runner, "AGAIN_AFTER_S", 0.5)
    jobs = Runner(app_for(settings), ledger, store, transfer="uri", roots=(tmp_path,), check=lambda more: None)
    for name in ("stuck0", "stuck1", "stuck2", "mine"):
        accept(store, name, tmp_path / "empty")
    with store.folder("stuck0").locked(), store.folder("stuck1").locked(), store.folder("stuck2").locked():
        stuck = [jobs.start(f"stuck{number}") for number in range(3)]
        jobs.start("mine").ended.result(10)
        assert store.read("mine").state == "refused" and "no image there" in store.read("mine").reason
        assert not any(turn.is_over for turn in stuck) and jobs.count() == 3
        assert jobs.start("stuck0") is stuck[0], "between two turns it is the same job"
        jobs.leave("stuck0")
        assert stuck[0].ended.done() and jobs.count() == 2
    for turn in stuck[1:]:
        turn.ended.result(10)
    assert store.read("stuck2").state == "refused" and store.read("stuck0").state == "open"
    jobs.stop()


def test_a_job_in_line_takes_less_than_a_kilobyte(
    ledger: Ledger, settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: 6 KB, and with 20,000 that waited, as many as are kept, the page had twice its 96 MB."""
    go_on, names = threading.Event(), [f"job{number}" for number in range(1000)]
    monkeypatch.setattr(Runner, "_run", lambda *job: go_on.wait(10) and False)
    monkeypatch.setattr(store, "read", lambda name: WebJob(created=1.0))
    jobs = Runner(app_for(settings), ledger, store, transfer="uri", roots=(), check=lambda more: None)
    for name in names[:50]:  # more than there are threads
        jobs.start(name)
    tracemalloc.start()
    try:
        for name in names[50:]:
            jobs.start(name)
        assert tracemalloc.get_traced_memory()[0] < 950 * 1000
    finally:
        tracemalloc.stop()
        go_on.set()
        jobs.stop()


def test_leaving_and_stopping() -> None:
    """In its place or in line: `ended` tells, and no turn is given after it."""
    turns, begun, go_on = JobTurns(1, "job"), threading.Event(), threading.Event()
    count = 0

    def turn() -> bool:
        nonlocal count
        count += 1
        begun.set()
        go_on.wait(10)
        return True

    in_place = turns.begin(turn)
    begun.wait(10)
    in_line, last = turns.begin(turn), turns.begin(turn)
    assert turns.in_line == 2
    assert in_line.leave() and in_line.ended.done() and turns.in_line == 1
    assert not in_place.leave() and not in_place.ended.done()
    assert not in_place.ended.cancel(), "who only waits for it ends nothing"
    go_on.set()
    in_place.ended.result(10)
    turns.stop()
    turns.join()
    last.ended.result(10)
    assert turns.in_line == 0 and count >= 1


def test_a_bug_in_a_turn_ends_its_job_alone() -> None:
    turns = JobTurns(1, "job")
    turns.begin(lambda: bool(1 // 0)).ended.result(10)
    turns.begin(lambda: False).ended.result(10)
    turns.stop()


def test_what_is_unpacked_lies_on_the_services_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in /tmp, which has 16 MB in a container; and it is no part of anybody's quota."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", "/nowhere")
    server._unpack_in(store.temporary)
    before = store.room.used()
    with tempfile.NamedTemporaryFile() as file:
        assert Path(file.name).parent == store.temporary == Path(os.environ["TMPDIR"])
        file.write(bytes(1 << 20))
        file.flush()
        store.room.forget()
        assert store.room.used() == before
    (store.temporary / "left").mkdir()
    (store.temporary / "left" / "by a killed service").touch()
    store.clean()
    assert list(store.temporary.iterdir()) == []
