"""Flower's own questions are answered by whoever may write to Redis: what it takes and keeps has bounds."""

from __future__ import annotations

import base64
import json
import threading
import uuid
from typing import Any

import pytest
import redis
from kombu import pools
from kombu.pidbox import Mailbox

from worker.app import CONTROL_EXCHANGE, REPLY_LISTS, app_for
from worker.celery_ext.flower_answers import MOST_NAME, MOST_TEXT, FewAnswers, bound_answers, held_bytes
from worker.ops.few_workers import FORGET_S, MOST_WORKERS
from worker.settings import Settings

ANSWERS_S = 2.0  # as long as nothing comes; those of a question come at once


def test_who_was_silent_longest_makes_room() -> None:
    now = [0.0]
    few = FewAnswers(100, lambda: now[0])
    assert [few.take(name, "stats", 40) for name in ("a", "b", "a")] == [[], [], []]
    assert few.take("c", "stats", 40) == ["b"] and few.take("a", "stats", 10) == []
    assert few.take("d", "active", 50) == [] and few.take("e", "stats", 1) == ["c"]
    assert few.take("f", "stats", 5000) == ["a", "d", "e"], "and what is there is its own"
    assert few.take("g", "stats", 1) == ["f"]
    now[0] = FORGET_S + 1
    assert few.take("h", "stats", 1) == ["g"]
    many = FewAnswers()
    assert sum(len(many.take(str(number), "stats", 1)) for number in range(2 * MOST_WORKERS)) == MOST_WORKERS


def test_held_bytes_are_those_of_all_that_is_in_it() -> None:
    assert held_bytes({"a": [[] for _ in range(1000)]}, 1 << 20) > 56_000
    assert 10 < held_bytes([[[]]] * 100_000, 10) < 2_000_000


class Stranger(threading.Thread):
    """Answers every question, with a worker's password, for as many names as he likes."""

    def __init__(self, client: redis.Redis, answers: list[Any], **headers: object) -> None:
        super().__init__()
        self.client, self.answers, self.headers = client, answers, headers
        self.heard = client.pubsub(ignore_subscribe_messages=True)
        self.heard.psubscribe(f"/0.{CONTROL_EXCHANGE}")
        self.over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.over.is_set():
            if (message := self.heard.get_message(timeout=0.05)) is None:
                continue
            asked = json.loads(base64.b64decode(json.loads(message["data"])["body"]))
            to = asked["reply_to"]
            said = [
                {
                    "body": base64.b64encode(json.dumps(answer).encode()).decode(),
                    "content-encoding": "utf-8",
                    "content-type": "application/json",
                    "headers": {"ticket": asked["ticket"], "clock": 1, **self.headers},
                    "properties": {"delivery_info": to, "body_encoding": "base64", "delivery_tag": str(uuid.uuid4())},
                }
                for answer in self.answers
            ]
            self.client.lpush(f"{REPLY_LISTS}{to['routing_key']}", *map(json.dumps, said))


class Loop:
    """Tornado's, as far as Flower's inspector needs it."""

    def add_callback(self, function: Any) -> None:
        function()


def ask(settings: Settings, client: redis.Redis, answers: list[Any], **headers: object) -> Any:
    from flower.inspector import Inspector

    # A question before, of any test of this process, may leave a BRPOP of its list behind: for a second the same
    # connection waits for nothing else. And what answers is a thread of a machine that may be busy.
    pools.reset()
    app = app_for(settings)
    app._after_fork()
    inspector = Inspector(Loop(), app, timeout=ANSWERS_S)
    stranger = Stranger(client, answers, **headers)
    try:
        inspector._inspect("stats", None)
    finally:
        stranger.over.set()
        stranger.join()
    return inspector


@pytest.mark.slow
def test_made_up_answers_are_bounded(settings: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: all of them, of any size, for good; those to other questions too."""
    inspector = pytest.importorskip("flower.inspector").Inspector
    monkeypatch.setattr(inspector, "_on_update", inspector._on_update)
    monkeypatch.setattr(Mailbox, "_collect", Mailbox._collect)
    bound_answers(FewAnswers(200_000))
    honest = {"w@h": {"pool": {"max-concurrency": 1}, "broker": {"alternates": []}, "total": {}}}
    odd = [
        {"x": 1, "y": 2},
        {"x" * (MOST_NAME + 1): {}},
        {"consumer": {"consumer": [1]}},
        ["x"],
        {"long": {"x": "x" * MOST_TEXT}},
        {"deep": [[] for _ in range(60_000)]},
    ]
    made_up = [{f"evil{number}": {"x": [[]] * 1000}} for number in range(20)]
    asked = ask(settings, client, [*odd, *made_up, honest])
    assert "w@h" in asked.workers and "alternates" not in str(asked.workers["w@h"])
    assert {name for name in asked.workers if not name.startswith("evil")} == {"w@h"}
    assert sum(held_bytes(dict(info), 1 << 30) for info in asked.workers.values()) < 210_000
    elsewhere = ask(settings, client, made_up, ticket="another's")
    assert not elsewhere.workers and not elsewhere.capp.control.mailbox.unclaimed
