"""What whoever had a password wrote before he left: it is bounded, and jobs go on."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import redis

from worker.app import UNACKED, UNACKED_INDEX, app_for
from worker.broker import queue
from worker.celery_ext import self_care
from worker.ledger import Ledger, reconcile
from worker.ops.cleanup import clean_redis
from worker.settings import Settings


def by_a_worker(ledger: Ledger, settings: Settings) -> None:
    self_care.SelfCare(app_for(settings), lambda *_: None).look()


def by_beat(ledger: Ledger, settings: Settings) -> None:
    assert reconcile.reconcile_all_once(app_for(settings), ledger) == 0


def by_the_hub(ledger: Ledger, settings: Settings) -> None:
    clean_redis(ledger, settings)


@pytest.mark.parametrize("look", [by_a_worker, by_beat, by_the_hub])
def test_what_is_no_message_in_hand_goes(
    ledger: Ledger,
    client: redis.Redis,
    settings: Settings,
    look: Callable[[Ledger, Settings], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before: 300 fields that the index does not name filled the window for good, and no job was fed again."""
    monkeypatch.setattr(self_care, "main_ledger", lambda: ledger)
    now = ledger.now()
    message = json.dumps([{"headers": {"id": "job:0"}}, "", "ocrfleet"])
    client.hset(UNACKED, mapping={f"x{number}": "x" for number in range(300)})
    assert queue.depth(client) == (0, 0)
    client.hset(UNACKED, mapping={"alone": message, "both": "x", "ours": message, "ahead": message})
    client.zadd(UNACKED_INDEX, {"both": now, "ours": now, "ahead": 1e15, "nothing": 1e15})
    look(ledger, settings)
    assert set(client.hkeys(UNACKED)) == set(client.zrange(UNACKED_INDEX, 0, -1)) == {b"ours", b"ahead"}
    assert client.zscore(UNACKED_INDEX, "ahead") < now + 60 and client.zscore(UNACKED_INDEX, "ours") == now
    assert queue.depth(client) == (0, 2)
