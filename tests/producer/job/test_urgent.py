"""Urgent pages are next, however much of another job waits."""

from __future__ import annotations

import json

from producer.job.feed import URGENT_PAGES, Feeder
from producer.job.manifest import ManifestLine
from worker.app import IMAGE_QUEUE, app_for
from worker.broker import queue
from worker.broker.urgent import MARK
from worker.ledger import Ledger
from worker.settings import Settings


def lines(count: int) -> list[ManifestLine]:
    return [ManifestLine(index, f"{index}.jpg", "file:///a.jpg", 0) for index in range(count)]


def taken(ledger: Ledger) -> str:
    """The task that a worker would be given now."""
    raw = ledger.client.rpop(IMAGE_QUEUE)
    return str(json.loads(raw)["headers"]["id"])


def test_urgent_pages_pass_those_that_wait(ledger: Ledger, settings: Settings) -> None:
    """Before: 5 urgent pages waited for 200 to 330 pages of a big job."""
    app = app_for(settings)
    ledger.create("big", 1000, {})
    ledger.create("soon", 5, {})
    big = Feeder(app, ledger, "big", lines(1000))
    big.step()
    assert sum(queue.depth(ledger.client)) == 256
    soon = Feeder(app, ledger, "soon", lines(5), urgent=True)
    assert soon.step() == 5
    ledger.create("next", 2, {})
    assert Feeder(app, ledger, "next", lines(2), urgent=True).step() == 2
    order = [*(f"soon:{index}" for index in range(5)), "next:0", "next:1"]
    assert [taken(ledger) for _ in range(7)] == order, "the first is served first, also among urgent ones"
    assert taken(ledger) == "big:0"


def test_an_urgent_job_does_not_fill_redis(ledger: Ledger, settings: Settings) -> None:
    app = app_for(settings)
    ledger.create("big", 1000, {})
    ledger.create("soon", 1000, {})
    Feeder(app, ledger, "big", lines(1000)).step()
    soon = Feeder(app, ledger, "soon", lines(1000), urgent=True)
    for _ in range(5):
        soon.step()
    assert soon.sent == URGENT_PAGES


def test_messages_of_a_strangers_size_are_not_moved(ledger: Ledger, settings: Settings) -> None:
    """Before: 190 of 1 MB in the queue, and each honest message took Redis to 1.4 GB and six seconds."""
    app, client = app_for(settings), ledger.client
    large = json.dumps({"headers": {"id": "made:0"}, "properties": {MARK: True}, "body": "x" * 100_000})
    client.rpush(IMAGE_QUEUE, *[large] * 3)
    ledger.create("soon", 1, {})
    assert Feeder(app, ledger, "soon", lines(1), urgent=True).step() == 1
    assert taken(ledger) == "soon:0"
    for name in ("one", "two"):
        ledger.create(name, 1, {})
        assert Feeder(app, ledger, name, lines(1)).step() == 1
    assert client.lrange(IMAGE_QUEUE, -3, -1) == [large.encode()] * 3
    assert client.llen(IMAGE_QUEUE) == 5
