"""Who watches a job: 64 at a time, and one more takes the place of who has watched the longest."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from producer.web import api
from producer.web.client import Client, Job
from producer.web.visitors.longest import Places


def test_the_longest_gives_way_after_a_while_unless_he_keeps_his_place() -> None:
    now, given_up = [0.0], list[str]()
    places = Places(2, 1.0, clock=lambda: now[0])
    first, second = places.lend(lambda: given_up.append("first")), places.lend(lambda: given_up.append("second"))
    assert first and second and places.lend() is None
    now[0] = 1.0
    third = places.lend()
    assert third is not None and given_up == ["first"] and first.given_up and not second.given_up
    with first:  # that its visitor ends now frees no place of another
        pass
    second.keep()
    now[0] = 2.0
    assert places.lend() is not None and third.given_up and given_up == ["first"]
    with second:
        pass
    assert places.lend() is not None


def test_one_more_may_always_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: 64 who watched an open job, and read nothing, kept everybody else from watching for as long."""
    monkeypatch.setattr(api, "EVENT_S", 0.01)
    monkeypatch.setattr(api, "GIVEN_UP_S", 0.05)
    service = SimpleNamespace(
        stopping=False,
        store=SimpleNamespace(read=lambda name: None),
        status=lambda name: {"job": name, "state": "open"},
    )
    state = SimpleNamespace(service=service, watchers=Places(3))
    told = list[list[bytes]]()

    async def watch() -> None:
        mine = list[bytes]()
        told.append(mine)

        async def send(message: Message) -> None:
            mine.append(message.get("body", b""))
            if mine[-1] and len(told) > 1 and mine is told[1]:  # he takes no more
                await asyncio.sleep(60)

        async def receive() -> Message:
            await asyncio.sleep(60)
            raise AssertionError

        scope: dict[str, Any] = {"type": "http", "app": SimpleNamespace(state=state), "path_params": {"job": "a"}}
        response = await api.job_events(Request(scope, receive))
        await response({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)

    async def all_of_them() -> list[bool]:
        watching = list[asyncio.Task[None]]()
        for _ in range(5):
            watching.append(asyncio.create_task(watch()))
            while len(told) < len(watching) or not any(told[-1]):
                await asyncio.sleep(0.01)
        await asyncio.wait(watching[:2], timeout=10)
        over = [one.done() for one in watching]
        service.stopping = True
        await asyncio.gather(*watching)
        return over

    assert asyncio.run(asyncio.wait_for(all_of_them(), 30)) == [True, True, False, False, False]
    assert all(b'"state": "open"' in b"".join(mine) for mine in told) and len(state.watchers._lent) == 0


def test_the_client_watches_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        [b'data: {"ok": 0}\n\n: still', b" here\n\n"],
        [b'data: {"ok": 0}\n\ndata: {"ok": 1}\n\n'],
        [b'data: {"ok": 2}\n\nevent: end\ndata: {}\n\n'],
    ]
    monkeypatch.setattr("producer.web.client.POLL_S", 0)
    client = Client("http://127.0.0.1:1")
    monkeypatch.setattr(client, "stream", lambda path: iter(answers.pop(0)))
    assert [status["ok"] for status in Job(client, "a").events()] == [0, 1, 2]
