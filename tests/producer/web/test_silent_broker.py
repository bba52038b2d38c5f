"""A broker that says nothing: who asks the page is told soon, and what is on its disk is told all the while."""

from __future__ import annotations

import socket
import time

import pytest
import redis

from producer.web.visitors import broker
from producer.web.visitors.broker import AGAIN_S, Silence, for_visitors
from worker.ledger import Ledger
from worker.settings import Settings


def test_one_at_a_time_waits_for_it() -> None:
    now = 0.0
    silence = Silence(lambda: now)
    silence.check()
    silence.begin()
    for is_asked in (False, True, False):
        if is_asked:
            now = AGAIN_S
            silence.check()
            continue
        with pytest.raises(redis.TimeoutError):
            silence.check()
    silence.end()
    silence.check()


def test_a_list_of_jobs_waits_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: half a minute for each job of it, in a thread of 40; with some lists nobody was given the page itself."""
    monkeypatch.setattr(broker, "ANSWER_S", 0.2)
    silent = socket.create_server(("127.0.0.1", 0))
    asked = for_visitors(ledger, f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
    began = time.monotonic()
    with silent:
        for _ in range(50):
            with pytest.raises(redis.TimeoutError):
                asked.status("job")
    assert time.monotonic() - began < 50 * 0.2


def test_it_is_asked_again(ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    silence = Silence(lambda: now)
    asked = for_visitors(ledger, settings.redis_url, silence)
    assert asked.status("job") is None
    silence.begin()
    with pytest.raises(redis.TimeoutError):
        asked.jobs()
    now = AGAIN_S
    assert asked.jobs() == [] and asked.jobs() == []
    silence.begin()
    now += AGAIN_S
    with pytest.raises(redis.ResponseError):  # a refusal is an answer
        asked.client.execute_command("NONE")
    assert asked.jobs() == []


def test_a_broker_whose_name_cannot_be_looked_up_is_silent(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: each question waited as long as the resolver does, 20 s, and that error ended the silence for all."""
    now, looks = 0.0, 0

    def look_up(*given: object, **named: object) -> list[object]:
        nonlocal now, looks
        looks += 1
        now += 20
        if looks == 1:  # who comes while the first is waiting
            silence.check()  # one waits, too: his question may be answered
            for _ in range(9):
                with pytest.raises(redis.TimeoutError):
                    silence.check()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    silence = Silence(lambda: now)
    asked = for_visitors(ledger, "redis://hub.example.org:6379/0", silence)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(redis.ConnectionError):
        asked.status("job")
    for _ in range(50):
        with pytest.raises(redis.TimeoutError):
            asked.status("job")
    assert looks == 1
    now += AGAIN_S
    with pytest.raises(redis.ConnectionError):
        asked.status("job")
    assert looks == 2
