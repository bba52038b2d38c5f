"""Cancel, retry and delete of one job meet: each finds the job whole, or is told that there is none."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.requests import Request

from producer.web.app import on_os_error
from producer.web.bounds import job_locks
from producer.web.bounds.job_locks import JobLocks, on_our_own
from producer.web.bounds.makings import Makings
from producer.web.problem import Problem, no_such_job
from producer.web.runner import Runner
from producer.web.service import Service
from producer.web.store import Store, WebJob
from worker.broker import queue


def runner_of(start: Callable[[str], object]) -> Runner:
    """Nobody is at work."""
    runner = Runner.__new__(Runner)
    runner.leave, runner.start = (lambda name: None), start  # type: ignore
    return runner


@pytest.mark.slow
def test_who_changes_a_job_that_is_deleted_is_told_so(tmp_path: Path) -> None:
    """Before: 507, "the service's disk: No such file or directory; make room there"."""
    store, others = Store(tmp_path), list[BaseException]()

    def change(*, delete: bool) -> None:
        begin.wait()
        try:
            for _ in range(3):
                store.throw_away("job") if delete else store.change("job", told="sent")
        except Problem as problem:
            assert problem.status == 404
        except BaseException as error:
            others.append(error)

    for _ in range(60):
        assert store.accept(store.new_upload(), "job", WebJob(created=1))
        begin = threading.Barrier(4)
        threads = [threading.Thread(target=change, kwargs={"delete": number % 2 == 0}) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert others == [] and store.names() == []


def test_a_retry_that_meets_a_deletion_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: its lock made the folder anew, and a job of the same key was never taken again."""
    service = Service.__new__(Service)  # its constructor wants a broker
    service.store, service.changing, service.makings = Store(tmp_path), JobLocks(), Makings()
    assert service.store.accept(service.store.new_upload(), "job", WebJob(created=1, state="done"))
    service.runner = runner_of(service.store.read)
    deleting = threading.Thread(target=service.delete, args=("job",))

    def status(name: str) -> None:
        """What the ledger knows; another visitor deletes the job meanwhile."""
        if deleting.ident is None:
            deleting.start()
            deleting.join(0.2)

    service.ledger = SimpleNamespace(status=status, forget=lambda name, epoch: 0, client=None)  # type: ignore[assignment]
    monkeypatch.setattr(queue, "drop_job", lambda client, name: 0)
    assert service.retry("job") == 0
    deleting.join()
    assert list((tmp_path / "jobs").iterdir()) == [] and service.changing._held == {}
    with pytest.raises(Problem, match="there is no job"):
        service.delete("job")


def test_a_retry_of_what_is_still_at_work_says_no_path(tmp_path: Path) -> None:
    """Before: 409 with the path of the page's folder, and the job was open with nobody at work on it."""
    service, started = Service.__new__(Service), list[str]()
    service.store, service.changing, service.makings = Store(tmp_path), JobLocks(), Makings()
    assert service.store.accept(service.store.new_upload(), "job", WebJob(created=1, state="cancelled"))
    service.runner = runner_of(started.append)
    service.ledger = SimpleNamespace(status=lambda name: None)  # type: ignore[assignment]
    with service.store.folder("job").locked(), pytest.raises(Problem) as refused:
        service.retry("job")
    assert refused.value.status == 409 and str(tmp_path) not in str(refused.value) and started == ["job"]


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_locks, "PATIENCE_S", 0.01)
    locks = JobLocks()
    with locks.of("one"), locks.of("two"):
        with pytest.raises(Problem) as refused, locks.of("one"):
            pass
        assert refused.value.status == 429 and set(locks._held) == {"one", "two"}
    assert locks._held == {}


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_changes_leave_threads_for_others() -> None:
    """Before: 200 deletions had all threads of the page for 20 s."""
    locks = JobLocks()
    with ExitStack() as stack:
        for number in range(job_locks.AT_ONCE):
            stack.enter_context(locks.of(f"job{number}"))
        for name in ("job0", "another"):
            began = time.monotonic()
            with pytest.raises(Problem) as refused, locks.of(name):
                pass
            assert refused.value.status == 429 and time.monotonic() - began < 1
    with locks.of("job0"):
        assert set(locks._held) == {"job0"}


def test_who_changes_one_job_keeps_no_other_from_being_changed(caplog: pytest.LogCaptureFixture) -> None:
    """Before: 14 connections that retried one job kept others from cancel, retry and delete, and the page from its own
    deletions: pictures that were sent to /detect stayed for days.
    """
    locks, answers = JobLocks(), list[int]()
    service = SimpleNamespace(changing=locks)
    delete = on_our_own(lambda service, name: answers.append(204))

    def change() -> None:
        try:
            with locks.of("hog"):
                answers.append(202)
        except Problem as problem:
            answers.append(problem.status)

    with locks.of("hog"):
        threads = [threading.Thread(target=change) for _ in range(14)]
        for thread in threads:
            thread.start()
        until(lambda: len(answers) == 13)
        assert answers == [429] * 13, "one waits"
        with ExitStack() as stack:
            for number in range(job_locks.AT_ONCE - job_locks.OF_ONE_JOB):
                stack.enter_context(locks.of(f"job{number}"))
            answers.clear()
            assert delete(service, "own") and answers == [204], "takes no place"
        own = threading.Thread(target=delete, args=(service, "hog"))
        own.start()
        until(lambda: locks._held["hog"].is_ending)
        change()
        assert answers == [204, 429], "nobody comes between"
    for thread in (*threads, own):
        thread.join()
    assert sorted(answers) == [202, 204, 204, 429] and locks._held == {} and locks._taken == 0


@pytest.mark.parametrize(("error", "goes_on"), [(no_such_job("a"), True), (OSError(5, "broken disk"), False)])
def test_what_the_page_cannot_delete_is_in_the_log(
    error: Exception, goes_on: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(service: SimpleNamespace, name: str) -> None:
        raise error

    assert on_our_own(fail)(SimpleNamespace(changing=JobLocks()), "a") is goes_on
    assert ("broken disk" in caplog.text) is not goes_on


@pytest.mark.parametrize(("job", "status"), [("gone", 404), ("there", 507)])
def test_who_reads_what_is_deleted_is_told_so(job: str, status: int) -> None:
    state = SimpleNamespace(service=SimpleNamespace(store=SimpleNamespace(has=lambda name: name == "there")))
    request = Request({"type": "http", "path_params": {"job": job}, "app": SimpleNamespace(state=state)})
    answer = asyncio.run(on_os_error(request, FileNotFoundError(errno.ENOENT, "No such file", "results.jsonl")))
    assert answer.status_code == status
