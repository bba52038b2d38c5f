"""What comes by PUBLISH is not taken one at a time: it is small, one of a few kinds, and never hoarded."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery.worker import state
from celery.worker.control import Panel

from worker.app import (
    BROADCAST_QUEUE,
    CLEANUP_TASK,
    CONTROL_EXCHANGE,
    DETECT_TASK,
    IMAGE_QUEUE,
    RECONCILE_TASK,
    REPLY_EXCHANGE,
    REPLY_LISTS,
    app_for,
)
from worker.broker.sending import SendingChannel
from worker.celery_ext.channel import MOST_OF_A_BROADCAST, FleetChannel
from worker.celery_ext.consumer import ANSWERED, MOST_REVOKED, OBEYED, refuse_remote_control
from worker.celery_ext.message_shape import wrong_broadcast, wrong_control
from worker.settings import Settings

PROPERTIES = {
    "delivery_tag": "t",
    "body_encoding": "base64",
    "delivery_info": {"exchange": BROADCAST_QUEUE, "routing_key": IMAGE_QUEUE},
}


def message(body: object, **headers: Any) -> dict[str, Any]:
    return {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"task": CLEANUP_TASK, "id": "x", **headers},
        "properties": PROPERTIES,
    }


@pytest.mark.parametrize("task", [CLEANUP_TASK, RECONCILE_TASK])
def test_what_beat_sends_is_taken(task: str) -> None:
    assert wrong_broadcast(message([[], {}, {}], task=task, expires="2099-01-01T00:00:00+00:00")) == ""


@pytest.mark.parametrize(
    ("strange", "said"),
    [
        (message([[], {}, {}], task=DETECT_TASK), "no task for all"),
        (message([["x" * 100], {}, {}]), "arguments"),
        (message([[], {"a": 1}, {}]), "arguments"),
        (message([[], {}, {}], argsrepr="x" * 20_000), "over 16"),
        (message([[], {}, {}], eta="2099-01-01T00:00:00+00:00"), "waits for a time"),
        (7, "an object"),
    ],
)
def test_nothing_else_is(strange: object, said: str) -> None:
    """Before: 400 of 0.9 MB, while a page ran, were 376 MB in the main process."""
    assert said in wrong_broadcast(strange)


def control(arguments: object, **more: object) -> dict[str, Any]:
    body = {"method": "revoke", "arguments": arguments, "destination": None, **more}
    return {**message(None), "body": base64.b64encode(json.dumps(body).encode()).decode()}


@pytest.mark.parametrize(
    "arguments",
    [
        {"task_id": "x" * 257},
        {"task_id": ["page:1", "x" * 257]},
        {"task_id": {"x" * 257: 1}},
        {"task_id": [["x"]]},
        {"task_id": ["x"] * 1025},
        {"task_id": "x" * (1 << 20)},
    ],
)
def test_long_ids_are_not_revoked(arguments: object) -> None:
    """Celery remembers 50,000 of them."""
    assert wrong_control(control(arguments))


def test_no_stranger_has_a_pattern_matched() -> None:
    """Before: `(.+)+x` over the name of its host kept each worker from everything, for good, by one PUBLISH."""
    assert wrong_control(control({}, pattern="(.+)+x", matcher="pcre")) == "it asks by a pattern"
    assert wrong_control(control({}, pattern=None, matcher=None)) == ""


@pytest.mark.parametrize("arguments", [{}, None, {"task_id": ["page:1"] * 1000, "terminate": True, "signal": "TERM"}])
def test_commands_of_people_are_taken(arguments: object) -> None:
    assert wrong_control(control(arguments)) == ""


KEY = "9d3b5f0a-7a44-3c0e-8b1c-0123456789ab"
TO = {"exchange": REPLY_EXCHANGE, "routing_key": KEY}


def test_answers_go_to_who_asks_as_kombu_does_and_nowhere_else(settings: Settings, client: redis.Redis) -> None:
    """Before: workers kept each exchange that an answer was asked over, 240 KB a name, and wrote into any list."""
    with client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.psubscribe(f"/0.{CONTROL_EXCHANGE}")
        heard.get_message(timeout=5)  # that it listens
        app_for(settings).control.inspect(timeout=0.01).ping()
        asked = json.loads(heard.get_message(timeout=5)["data"])
    assert wrong_control(asked) == ""
    assert json.loads(base64.b64decode(asked["body"]))["reply_to"]["exchange"] == REPLY_EXCHANGE
    assert wrong_control(control({}, reply_to=TO, ticket="t")) == ""
    keys: list[Any] = ["", None, 7, [], KEY.upper(), f"{KEY}x", f"{KEY}\n", "x" * 40_000]
    places: list[Any] = [
        *({"exchange": name, "routing_key": KEY} for name in ("", IMAGE_QUEUE, BROADCAST_QUEUE, "x", "x" * 40_000, 7)),
        *({**TO, "routing_key": key} for key in keys),
        *({}, {"exchange": REPLY_EXCHANGE}, {"routing_key": KEY}, {**TO, "x": 1}, {**TO, "exchange": None}),
    ]
    assert {wrong_control(control({}, reply_to=to)) for to in places} == {"nobody waits there for an answer"}


def test_a_strangers_clock_stays_where_json_takes_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: after one of 4,300 digits no answer of the worker, nor of Flower, could be written, until its end."""
    app = app_for(settings)
    node, listener = app.control.mailbox.Node("w@h"), app.events.Receiver(app.connection_for_read())
    ask, event = {"method": "ping", "destination": ["another@h"]}, {"type": "worker-heartbeat"}
    for clock in (10**4299, 2**53 - 1, 2**52 + 1, -(10**4299), 1e300, 4e15, float("nan"), "x", [], {}, True, None):
        node.handle_message(ask, SimpleNamespace(headers={"clock": clock}))
        listener.event_from_message({**event, "clock": clock}, localize=False)
    monkeypatch.setattr(app.control.mailbox.clock, "value", app.control.mailbox.clock.value)  # as it was, afterwards
    for used in (app.clock, app.control.mailbox.clock):
        assert type(used.value) is int and used.value < 10**6
    node.handle_message(ask, SimpleNamespace(headers={"clock": 2**52}))
    assert app.control.mailbox.clock.value == 2**52 + 1, "a worker that ran for long is heeded"


def test_what_celery_reads_is_what_was_looked_at() -> None:
    """A body that is packed says one thing to who unpacks it, and another to who does not."""
    good = control({})
    assert wrong_control(good) == ""
    odd: list[dict[str, Any]] = [
        {"content-encoding": "utf-16"},
        {"content-encoding": None},
        {"headers": {"compression": "application/x-brotli"}},
        {"headers": {"compression": ""}},
        {"body": base64.b64encode('{"method":"ping"}'.encode("utf-16-be")).decode()},
        {"properties": {**PROPERTIES, "body_encoding": "rot13"}},
    ]
    odd += [control({}, ticket="x" * 257), control({}, method="x" * 257), control({}, x=1), control({}, self=1)]
    assert [one for one in odd if not wrong_control({**good, **one})] == []


def test_only_named_commands_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: `dump_conf`, the older name of `conf`, told the broker's password."""
    monkeypatch.setattr(Panel, "data", dict(Panel.data))
    monkeypatch.setattr(state.revoked, "maxlen", state.revoked.maxlen)
    refuse_remote_control()
    assert set(Panel.data) == {*ANSWERED, *OBEYED} and state.revoked.maxlen == MOST_REVOKED
    assert not {"conf", "dump_conf", "report", "hello", "shutdown", "pool_grow"} & set(Panel.data)


def test_no_more_are_held_than_are_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[SimpleNamespace] = []
    monkeypatch.setattr(state, "reserved_requests", held)
    channel = SimpleNamespace(
        _fanout_queues={"bcast.1": (BROADCAST_QUEUE, None)}, connection_errors=(), connection=None
    )
    channel.connection = SimpleNamespace(channel_errors=())

    def deliver(raw: dict[str, Any]) -> None:
        held.append(SimpleNamespace(name=raw["headers"]["task"]))

    for _ in range(50):
        FleetChannel._deliver_checked(channel, "bcast.1", deliver, message([[], {}, {}]))
        FleetChannel._deliver_checked(channel, "bcast.1", deliver, message([[], {}, {}], task=RECONCILE_TASK))
    assert len(held) == 2 * MOST_OF_A_BROADCAST


def test_answers_go_where_they_are_waited_for() -> None:
    """Before: to each queue that somebody had bound to the key, a round trip each."""
    channel = SendingChannel.__new__(SendingChannel)
    assert channel._lookup(REPLY_EXCHANGE, "me") == [f"{REPLY_LISTS}me"]
    assert channel._lookup("celery", "celery") == [], "no other exchange is ours"
