"""What hangs on a folder of OCRFLEET_ROOTS keeps nobody else: few wait for it, and others are told so at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.concurrency import run_in_threadpool

from producer.web import api, labelstudio, runner
from producer.web.bounds import scan_turns
from producer.web.problem import Problem
from producer.web.service import Service
from producer.web.store import WebJob
from producer.web.visitors import questions
from producer.web.visitors.questions import VISITORS, Questions
from tests.processes import wait_until
from tests.producer.web.test_json_bodies import Visitor
from tests.producer.web.test_two_pages import page

__all__ = ["page"]


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """One that does not answer until this is set."""
    monkeypatch.setattr(questions, "PATIENCE_S", 0.3)
    monkeypatch.setattr(questions, "ANSWER_S", 0.3)
    for asking in (api, labelstudio):
        monkeypatch.setattr(asking, "of_visitors", Questions(VISITORS))
    back = threading.Event()
    yield back
    back.set()


def test_each_has_one_question_and_there_are_so_many(share: threading.Event) -> None:
    asking = Questions(2)
    first = asking.ask(share.wait, "job")
    assert first is not None and asking.ask(share.wait, "job") is None, "it has no answer yet"
    assert asking.ask(share.wait) is not None and asking.ask(share.wait) is None
    share.set()
    assert first.result(10) and not first.cancel()
    again = asking.ask(lambda: 1 // 0, "job")
    assert again is not None and isinstance(again.exception(10), ZeroDivisionError)
    assert asking.ask(lambda: 7, "job") is not None


@pytest.mark.parametrize("asked", ["jobs", "predict"])
def test_a_share_that_hangs_leaves_threads_for_others(
    asked: str, share: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: 40 had all the page's threads, as long as it hung; also when they had left."""

    def check_sources(addresses: object) -> list[str]:
        share.wait(30)
        raise Problem(404, "no such file", "check the path")

    settings = SimpleNamespace(roots=())
    service: Any = SimpleNamespace(web=SimpleNamespace(idle_s=5.0), check_sources=check_sources, settings=settings)

    async def ask() -> int:
        try:
            if asked == "jobs":
                await api._create_from_addresses(Visitor(b'{"uris":["/a"]}', service=service).request, "job")
            else:
                body = b'{"tasks":[{"data":{"image":"/a"}}]}'
                await labelstudio._begin(Visitor(body, service=service).request)
        except Problem as problem:
            return problem.status
        return 200

    async def all_of_them() -> None:
        asking = [asyncio.create_task(ask()) for _ in range(60)]
        await asyncio.sleep(0.1)
        assert await asyncio.wait_for(run_in_threadpool(lambda: 7), 10) == 7
        assert await asyncio.gather(*asking) == [503] * 60
        with monkeypatch.context() as patch:
            patch.setattr(questions, "LOOK_S", 60.0)
            assert await asyncio.wait_for(ask(), 10) == 503, "at once"
        assert sum(thread.name == "question" for thread in threading.enumerate()) <= VISITORS
        share.set()
        while (said := await ask()) == 503:
            await asyncio.sleep(0.01)
        assert said == (404 if asked == "jobs" else 403)

    asyncio.run(asyncio.wait_for(all_of_them(), 60))


def test_a_request_waits_once_for_all_its_tasks(share: threading.Event) -> None:
    """Before: so long for each of 100, in a place of the 16 that large bodies have."""
    asked = list[object]()

    def check_sources(addresses: object) -> list[str]:
        asked.append(addresses)
        time.sleep(0.1)
        raise Problem(404, "no such file", "check the path")

    service: Any = SimpleNamespace(
        web=SimpleNamespace(idle_s=5.0), check_sources=check_sources, settings=SimpleNamespace(roots=())
    )
    body = b'{"tasks":[%s]}' % b",".join([b'{"data":{"image":"/a"}}'] * 50)
    with pytest.raises(Problem) as said:
        asyncio.run(labelstudio._begin(Visitor(body, service=service).request))
    assert said.value.status == 503 and len(asked) < 10


def test_a_job_of_a_slow_share_is_done(
    page: Service, share: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: what came after `SILENT_S` was thrown away each time, and it waited for good."""
    monkeypatch.setattr(scan_turns, "SILENT_S", 0.2)
    monkeypatch.setattr(scan_turns, "SLOWER", 100.0)
    monkeypatch.setattr(scan_turns, "LOOK_S", 0.02)

    def scan_everything(*given: object, **named: object) -> Iterator[Any]:
        time.sleep(0.5)
        yield from ()

    monkeypatch.setattr(runner, "scan_everything", scan_everything)
    folder = page.store.new_upload()
    assert page.accept(folder, "job", WebJob(created=time.time(), sources=[str(tmp_path)]))
    wait_until(lambda: page.store.read("job").state != "open", seconds=20, what="its end")
    assert page.store.read("job").reason == "no image there"
