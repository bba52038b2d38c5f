"""Very many jobs, files or pages of one visitor leave the page time for the others."""

from __future__ import annotations

import asyncio
import os
import time
import tracemalloc
from pathlib import Path
from threading import Semaphore, Thread
from types import SimpleNamespace

import pytest
from starlette.requests import Request

from producer.job.page_order import PageOrder
from producer.job.results_file import iter_records, read_lines, rewrite
from producer.web import store
from producer.web.bounds import few_readers, lists
from producer.web.bounds.lists import MOST_LISTED, job_failures, job_pages
from producer.web.problem import Problem, quota_is_used
from producer.web.store import Store, WebJob
from producer.web.upload import Intake
from producer.web.visitors.readiness import Readiness
from tests.producer.records import ok, write_results
from tests.producer.web.places import lone_place
from tests.producer.web.test_form_parts import PICTURE, SETTINGS


def test_a_list_of_jobs_reads_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: each list read all: 20,000 jobs of a few bytes, sent within an hour, were 5 s for each visitor."""
    jobs = Store(tmp_path)
    for number in range(20):
        assert jobs.accept(jobs.new_upload(), f"job{number}", WebJob(created=number))
    assert jobs.names() == [f"job{number}" for number in reversed(range(20))]
    reads = []
    read = jobs.read
    monkeypatch.setattr(jobs, "read", lambda name: reads.append(name) or read(name))
    assert len(jobs.names()) == 20 and reads == []
    jobs.change("job3", finished=5.0)
    reads.clear()
    jobs.throw_away("job4")
    assert jobs.accept(jobs.new_upload(), "job4", WebJob(created=100)) and jobs.names()[0] == "job4"
    assert sorted(reads) == ["job3", "job4"] and dict(jobs.all())["job3"].finished == 5.0


def test_no_more_jobs_than_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Store(tmp_path)
    monkeypatch.setattr(store, "MOST_JOBS", 2)
    for name in ("one", "two"):
        jobs.check_places()
        assert jobs.accept(jobs.new_upload(), name, WebJob(created=1))
    with pytest.raises(Problem, match="2 jobs are kept already") as refused:
        jobs.check_places()
    assert refused.value.status == 429
    jobs.throw_away("one")
    jobs.check_places()


def test_places_are_counted_without_a_list(tmp_path: Path) -> None:
    """Before: all names at once, 2 MB of 20,000 jobs, in each of 40 threads: the page had 133 MB."""
    jobs = Store(tmp_path)
    for number in range(2000):
        (tmp_path / "jobs" / f"web-20271127-{number:08}").mkdir()
    jobs.check_places()
    tracemalloc.start()
    try:
        jobs.check_places()
        assert tracemalloc.get_traced_memory()[1] < 20_000
    finally:
        tracemalloc.stop()


def test_readiness_is_looked_at_once_for_all() -> None:
    """Before: 60 who asked without a pause, and without a token, had another's job told after 2 s."""
    looks, now = list[float](), 0.0

    def look() -> None:
        looks.append(now)
        time.sleep(0.01)
        if now == 0:
            raise quota_is_used(1)
        if now == 1:
            raise OSError(5, "broken disk")

    async def run() -> None:
        nonlocal now
        readiness = Readiness(look, lambda: now)
        told = await asyncio.gather(*(readiness.problem() for _ in range(50)))
        assert {problem and problem.status for problem in told} == {413} and looks == [0.0]
        now = 1.0
        with pytest.raises(OSError, match="broken disk"):
            await readiness.problem()
        now = 1.5
        assert await readiness.problem() is None and looks == [0.0, 1.0, 1.5]

    asyncio.run(run())


@pytest.mark.slow
def test_a_form_of_many_small_files_lets_others_be_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: each was synced to the disk as it came, 500 in one piece of a request, and nobody was answered."""
    part = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.jpg"\r\n\r\n' + PICTURE + b"\r\n"
    body, synced, gaps = part * 100 + b"--b--\r\n", [], []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(time.sleep(0.01)) or fsync(descriptor))

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    request = Request({"type": "http", "headers": headers, "query_string": b""}, receive)
    jobs = Store(tmp_path)
    intake = Intake(
        jobs.new_upload() / "upload", SETTINGS, jobs.room, archives=True, most_files=100, place=lone_place()
    )

    async def others() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            gaps.append(time.thread_time() - before)

    async def both() -> None:
        other = asyncio.create_task(others())
        await intake.read(request)
        other.cancel()

    asyncio.run(both())
    assert len(synced) == len(intake.received.files) == 100, "all are on the disk before the answer"
    assert len(gaps) > 50, "in a thread, during whose second others were answered"


def test_long_lists_are_read_for_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: 40 requests for the end of a list of millions kept every thread of the page busy."""
    service = SimpleNamespace(pages=lambda *place: [], failures=lambda *place: [])
    scope = {
        "type": "http", "method": "GET", "path_params": {"job": "job"}, "query_string": b"offset=9999999",
        "app": SimpleNamespace(state=SimpleNamespace(service=service)),
    }  # fmt: skip
    for ask in (job_pages, job_failures):
        assert ask(Request(scope)).status_code == 200
    monkeypatch.setattr(few_readers, "_places", Semaphore(0))
    monkeypatch.setattr(lists, "_failures", Semaphore(0))
    monkeypatch.setattr(few_readers, "PATIENCE_S", 0)
    for ask in (job_pages, job_failures):
        with pytest.raises(Problem) as refused:
            ask(Request(scope))
        assert refused.value.status == 429
    assert MOST_LISTED <= 1000


def test_few_wait_for_a_place_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: who asked for 200 lists of failures kept all threads waiting."""
    monkeypatch.setattr(few_readers, "PATIENCE_S", 30.0)
    places, answers = Semaphore(0), list[int]()

    def ask() -> None:
        try:
            with few_readers.reading(places):
                answers.append(200)
        except Problem as problem:
            answers.append(problem.status)

    threads = [Thread(target=ask) for _ in range(few_readers.WAITING + 5)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while len(answers) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert answers == [429] * 5
    places.release()  # each that has read lets the next in
    for thread in threads:
        thread.join(20)
    assert answers[5:] == [200] * few_readers.WAITING


def test_a_line_longer_than_any_record_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: a results file of a stranger with one line of 10 GB was 10 GB of whoever exported it."""
    results = write_results(tmp_path, [ok(0)])
    with results.open("ab") as stream:
        stream.write(b"x" * 5000 + b"\n")
    write_results(tmp_path / "more", [ok(1)])
    with results.open("ab") as stream:
        stream.write((tmp_path / "more/results.jsonl").read_bytes() + b"torn")
    monkeypatch.setattr("producer.job.results_file.MOST_LINE_BYTES", 1000)
    damaged: list[int] = []
    assert [record.index for record in iter_records(results, damaged.append)] == [0, 1] and damaged
    assert [line.index for _, line in read_lines(results) if line is not None] == [0, 1]
    assert [record.index for record in PageOrder(results).records()] == [0, 1]
    rewrite(results, lambda number, line: True)
    assert results.stat().st_size < 2000
