"""A job that was cancelled ends, whatever gives it another turn; what is deleted, or old, takes no other along."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Thread

import pytest
import redis

from producer.web import runner
from producer.web import store as web_store
from producer.web.bounds.room import QuotaUsedError
from producer.web.jobs import told
from producer.web.problem import Problem
from producer.web.service import Service
from producer.web.store import Store, WebJob
from tests.pictures import write_images
from tests.processes import wait_until
from tests.producer.records import failed, ok, write_results
from tests.producer.web.test_two_pages import lone, send
from worker.ledger import Ledger
from worker.ops.worker_registry import WorkerNote, note_worker
from worker.settings import Settings


@pytest.mark.parametrize("at", ["the quota is full", "the broker is away", "the next start", "the disk is full"])
def test_a_cancelled_job_ends(
    at: str, ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: its next turn opened it again, and it did all its pages."""
    monkeypatch.setattr(runner, "AGAIN_AFTER_S", 0.05)
    page = lone(tmp_path / "web", ledger, settings)
    full = False

    def check(written: int) -> None:
        if full:
            raise QuotaUsedError(1 << 40, written)

    page.runner._check = check
    send(page)
    wait_until(lambda: ledger.client.get("ocrfleet:job:job:state") == b"qq", seconds=10, what="its pages")
    if at == "the disk is full":

        def no_space(*given: object, **named: object) -> None:
            raise OSError(28, "No space left")

        with monkeypatch.context() as patch:
            patch.setattr(page.store, "change", no_space)
            assert page.cancel("job") == 2
            if known := page.runner.running("job"):
                wait_until(lambda: known.progress.phase.startswith("waiting: No space"), seconds=10, what="the disk")
    elif at == "the quota is full":
        full = True
        running = page.runner.running("job")
        assert running
        wait_until(lambda: running.progress.phase.startswith("waiting: the quota"), seconds=10, what="it to wait")
        page.cancel("job")
    elif at == "the broker is away":

        def away(name: str) -> bool:
            raise redis.ConnectionError

        with monkeypatch.context() as patch, pytest.raises(redis.ConnectionError):
            patch.setattr(ledger, "cancel", away)
            page.cancel("job")
    else:
        page.runner.stop()  # before its thread sees the wish
        page.cancel("job")
        ledger.reopen("job")  # what Redis forgets, where it writes once a second
        page = lone(tmp_path / "web", ledger, settings)
        assert page.resume() == 1
    try:
        wait_until(lambda: page.store.read("job").state != "open", seconds=10, what="its end")
        assert page.store.read("job").state == "cancelled"
        full = False
        assert page.retry("job") == 0
        wait_until(lambda: ledger.client.get("ocrfleet:job:job:state") == b"qq", seconds=10, what="its pages again")
        assert page.store.read("job").state == "open"
    finally:
        page.runner.stop()


def test_a_deletion_that_did_not_end_takes_no_new_job_along(
    ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: at the next start the new job of that name went, with its keys, uploads and results."""
    page = lone(tmp_path / "web", ledger, settings)
    assert page.store.accept(page.store.new_upload(), "job", WebJob(created=1, state="done"))
    with monkeypatch.context() as patch:
        patch.setattr(web_store, "remove_tree", lambda folder: None)  # killed in the middle, say
        page.delete("job")
    assert list((tmp_path / "web/trash").iterdir())
    assert page.store.accept(page.store.new_upload(), "job", WebJob(created=2, state="done"))
    again = lone(tmp_path / "web", ledger, settings)
    again.resume()
    assert again.store.read("job").created == 2 and not list((tmp_path / "web/trash").iterdir())


@pytest.mark.parametrize("change", ["delete", "retry", "cancel"])
def test_a_change_that_could_not_be_made_leaves_the_job_at_work(
    change: str, ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: after one DELETE that was answered 503 nobody looked after the job until the page was started anew."""
    page = lone(tmp_path / "web", ledger, settings)
    if change == "cancel":  # of one whose pages are still counted
        assert page.store.accept(page.store.new_upload(), "job", WebJob(created=1))
        monkeypatch.setattr(page.runner, "_run", lambda *given: time.sleep(0.1) or True)
        page.runner.start("job")
    else:
        send(page)
        wait_until(lambda: ledger.client.get("ocrfleet:job:job:state") == b"qq", seconds=10, what="its pages")

    def refused(*given: object, **named: object) -> None:
        raise OSError(28, "No space left")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "forget", refused)
        if change == "retry":
            patch.setattr(page.store, "change", refused)
        patch.setattr(page.runner, "end", refused)
        with pytest.raises(OSError, match="No space"):
            getattr(page, change)("job")
    running = page.runner.running("job")
    assert running and running.turn and not running.turn.is_over
    page.runner.stop()


def test_the_same_key_while_its_job_is_deleted_is_told_to_come_again(
    ledger: Ledger, settings: Settings, tmp_path: Path
) -> None:
    """Before: 200, the same job, and both were gone."""
    page = lone(tmp_path / "web", ledger, settings)
    send(page)
    forget, answers = ledger.forget, list[object]()

    def same_again() -> None:
        try:
            send(page)
        except Problem as problem:
            answers.append(problem.status)

    again = Thread(target=same_again)

    def slowly(name: str, epoch: str = "") -> int:
        again.start()
        again.join()
        return forget(name, epoch)

    ledger.forget = slowly  # type: ignore[method-assign]
    with page.changing.of("job"):  # whoever cancels it
        assert not page.accept(page.store.new_upload(), "job", page.store.read("job")), "before, 429"
    page.delete("job")
    assert answers == [429]
    send(page)
    page.runner.stop()


def test_what_a_job_came_to_is_counted_once(
    ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: each list of 300 jobs that Redis does not know read all their results again."""
    page = lone(tmp_path / "web", ledger, settings)
    page._workers, page._alive_at = 0, float("inf")
    assert page.store.accept(page.store.new_upload(), "job", WebJob(created=1))
    write_results(page.store.folder("job").root, [ok(0), ok(1), failed(2, "cut off")])
    page.runner.end("job", "done")
    monkeypatch.setattr(told, "counts_of", lambda results: {})
    status = page.status("job")
    assert [status[key] for key in ("total", "ok", "failed")] == [3, 2, 1]


def test_old_is_what_is_old_when_its_turn_has_come(tmp_path: Path, ledger: Ledger, settings: Settings) -> None:
    """Before: by a list of seconds ago, so that a job that was tried again, or sent anew, went in the middle of it."""
    page, now = lone(tmp_path / "web", ledger, settings), time.time()
    page.settings = settings
    for name in ("a", "b"):
        assert page.store.accept(page.store.new_upload(), name, WebJob(created=1, state="done", finished=1.0))
    forget, gone = ledger.forget, list[str]()

    def tried_again(name: str, epoch: str = "") -> int:
        """Of the other, while the first is deleted."""
        gone.append(name)
        page.store.change({"a": "b", "b": "a"}[name], state="open", finished=0.0)
        return forget(name, epoch)

    ledger.forget = tried_again  # type: ignore[method-assign]
    page.expire(now)
    assert len(gone) == 1 and len(page.store.names()) == 1


@pytest.mark.parametrize("kept", [b"", b'{"created": 1, "options": {"shape": "of a version to come"}}', b"[" * 5000])
def test_a_job_of_which_nothing_can_be_read_keeps_no_other_from_anything(
    kept: bytes, ledger: Ledger, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Before: the page did not start, and the list of jobs was a bare 500."""
    store = Store(tmp_path / "web")
    for name in ("damaged", "job"):
        assert store.accept(store.new_upload(), name, WebJob(created=1, state="done"))
    (store.folder("damaged").root / "web.json").write_bytes(kept)
    page = lone(tmp_path / "web", ledger, settings)
    page._workers, page._alive_at = 0, float("inf")
    assert page.resume() == 0
    told = {job["job"]: job for job in page.jobs(10)}
    assert told["job"]["state"] == "done" and told["damaged"]["state"] == "refused"
    assert "cannot be read" in told["damaged"]["reason"] and caplog.text.count("cannot be read") == 1
    page.delete("damaged")
    assert page.store.names() == ["job"]


def test_a_job_that_is_deleted_while_a_list_is_made_is_left_out(
    ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: the list was "the service's disk: No such file", for who had not asked for that job."""
    page = lone(tmp_path / "web", ledger, settings)
    page._workers, page._alive_at = 0, float("inf")
    for name in ("job", "other"):
        assert page.store.accept(page.store.new_upload(), name, WebJob(created=1, state="done"))

    def counts_of(results: Path) -> dict[str, int]:
        if results.parent.name == "job":
            raise FileNotFoundError(2, "No such file or directory", str(results))
        return {}

    monkeypatch.setattr(told, "counts_of", counts_of)
    assert [job["job"] for job in page.jobs(10)] == ["other"]
    with pytest.raises(Problem, match="there is no job"):
        page.status("job")


def test_what_was_passed_over_is_told_for_good(tmp_path: Path, ledger: Ledger, settings: Settings) -> None:
    """Before: as long as the job's thread was there."""
    page = lone(tmp_path / "web", ledger, settings)
    folder = page.store.new_upload()
    (folder / "upload/notes.txt").write_text("no picture")
    write_images(folder / "upload", 1)
    assert page.accept(folder, "job", WebJob(created=1))
    wait_until(lambda: ledger.client.get("ocrfleet:job:job:state") == b"q", seconds=10, what="its page")
    page.runner.stop()
    assert page.runner.running("job") is None
    page._workers, page._alive_at = 0, float("inf")
    assert page.status("job")["warnings"] == ["passed over: 1 .txt"]


def told_alive(page: Service) -> int:
    page._workers, page._alive_at = 0, float("-inf")
    return page.workers_alive()


def test_workers_are_alive_by_the_brokers_clock(
    tmp_path: Path, ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: by the page's own, and where that was 80 s behind none was."""
    now = ledger.now()
    note_worker(ledger.client, "host:1", WorkerNote(at=now, started=now, version="1", profile="low", temp_bytes=0))
    monkeypatch.setattr(time, "time", lambda: now - 80)
    assert told_alive(lone(tmp_path / "web", ledger, settings)) == 1
