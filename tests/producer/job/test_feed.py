"""Backpressure: the queue stays inside its window, however long the job is."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from producer.job.feed import Feeder, Window
from producer.job.manifest import ManifestLine
from producer.job.upload import Uploader
from tests.processes import wait_until
from worker.app import app_for
from worker.broker import queue
from worker.ledger.ledger import Ledger
from worker.ledger.uncollected import Uncollected
from worker.messages import ImageTask
from worker.redis_keys import JobKeys, now_ms
from worker.settings import Settings

JOB = "job"
COUNT = 200


@pytest.fixture
def feeder(ledger: Ledger, settings: Settings) -> Feeder:
    ledger.create(JOB, COUNT, {})
    pages = (ManifestLine(index, f"{index}.jpg", f"file:///{index}.jpg", 0) for index in range(COUNT))
    return Feeder(app_for(settings), ledger, JOB, pages, window=Window(low=20, high=50, uncollected=40))


def hold(ledger: Ledger, tag: str, message: str | bytes) -> None:
    """A worker took it, and has not acknowledged it."""
    ledger.client.hset(queue.UNACKED, tag, message)
    ledger.client.zadd(queue.UNACKED_INDEX, {tag: ledger.now()})


def take(ledger: Ledger, count: int) -> None:
    """What a worker would: one message off the queue, one record in the ledger."""
    for _ in range(count):
        assert ledger.client.rpop(queue.IMAGE_QUEUE)
        index = min(index for index in ledger.in_flight(JOB) if index not in ledger.leased(JOB))
        ledger.begin(JOB, index, redelivered=False)
        ledger.finish(JOB, index, ok=True, record=b"{}")


def test_the_window(feeder: Feeder, ledger: Ledger) -> None:
    assert feeder.step() == 50
    assert sum(queue.depth(ledger.client)) == 50
    assert feeder.step() == 0, "full"
    take(ledger, 10)
    assert feeder.step() == 0, "still above the low watermark"
    take(ledger, 19)
    assert feeder.step() == 0
    take(ledger, 1)
    assert feeder.step() == 30, "at the low watermark: up to the high one again"


def test_unacknowledged_messages_count(feeder: Feeder, ledger: Ledger) -> None:
    assert feeder.step() == 50
    for number in range(45):
        hold(ledger, f"tag{number}", ledger.client.rpop(queue.IMAGE_QUEUE))
    assert feeder.step() == 0
    ledger.client.hdel(queue.UNACKED, *(f"tag{number}" for number in range(30)))
    assert feeder.step() == 30


def test_messages_in_hand_of_no_job_do_not_count(feeder: Feeder, ledger: Ledger) -> None:
    """Before: 300 of them, and nothing was sent for the visibility timeout; 15,000, and for 20 minutes."""
    for number in range(300):
        hold(ledger, f"tag{number}", json.dumps([{"headers": {"id": f"none:{number}"}}, "", "ocrfleet"]))
    assert feeder.step() == 50
    assert feeder.step() == 0, "its own do"


def test_results_nobody_collects_stop_the_feed(feeder: Feeder, ledger: Ledger) -> None:
    feeder.step()
    take(ledger, 40)
    assert feeder.step() == 0 and feeder.waiting
    ledger.client.xtrim(JobKeys.of(JOB).results, maxlen=0, approximate=False)
    assert feeder.step() > 0 and not feeder.waiting


@pytest.mark.parametrize("grid_ms", [0, 1, 2, 5])
def test_large_uncollected_records_stop_the_feed_sooner(ledger: Ledger, settings: Settings, grid_ms: int) -> None:
    """Whenever they come. Before: by the ids' milliseconds 700 KB were taken for 700 KB, or for 5 MB."""
    ledger.create(JOB, 10_000, {})
    pages = (ManifestLine(index, f"{index}.jpg", f"file:///{index}.jpg", 0) for index in range(10_000))
    feeder = Feeder(app_for(settings), ledger, JOB, pages, window=Window(low=1, high=10, uncollected_bytes=1 << 20))
    results = JobKeys.of(JOB).results

    def leave(count: int, size: int) -> None:
        began = now_ms()
        pipe = ledger.client.pipeline()
        for _ in range(count):
            # As Redis numbers them; or all at once, at a time on a grid.
            pipe.xadd(results, {"record": b"x" * size}, id=f"{began - began % grid_ms}-*" if grid_ms else "*")
        pipe.execute()
        time.sleep(0.01)  # what is fed in the same milliseconds cannot be told apart
        queue.purge(ledger.client)

    leave(1000, 500)
    assert feeder.step() > 0 and not feeder.waiting
    leave(400, 7000)
    queue.purge(ledger.client)
    assert feeder.step() == 0 and feeder.waiting, "1400 records, 3.3 MB"
    ledger.client.xtrim(results, maxlen=10, approximate=False)
    assert feeder.step() > 0 and not feeder.waiting


def test_a_nearly_full_broker_stops_the_feed_whatever_fills_it(feeder: Feeder, ledger: Ledger) -> None:
    ledger.client.set("somebody-else's", b"x" * (8 << 20))
    ledger.client.config_set("maxmemory", "10mb")
    try:
        assert feeder.step() == 0 and "of the broker's memory is used" in feeder.waiting
        ledger.client.delete("somebody-else's")
        wait_until(feeder.step, seconds=5, what="Valkey to have freed it, in its own time")
        assert not feeder.waiting
    finally:
        ledger.client.config_set("maxmemory", "0")


def test_the_mean_record(ledger: Ledger) -> None:
    def mean_record_bytes() -> float:
        return Uncollected(ledger.client, "stream").mean_bytes()

    assert mean_record_bytes() == 0
    for number in range(100):
        ledger.client.xadd("stream", {"record": b"x" * (100 if number < 50 else 300)}, id=f"{number + 1}-0")
    assert mean_record_bytes() == 100, "all of them long ago"
    ledger.client.delete("stream")
    for number in range(100):
        at = now_ms() - 1000 + number * 10
        ledger.client.xadd("stream", {"record": b"x" * (100 if number < 45 else 300)}, id=f"{at}-0")
    assert mean_record_bytes() == pytest.approx(210, abs=45)


def test_every_page_is_sent_once_and_feeding_again_sends_nothing(
    feeder: Feeder, ledger: Ledger, settings: Settings
) -> None:
    while not feeder.exhausted:
        feeder.step()
        take(ledger, queue.depth(ledger.client)[0])
        ledger.client.xtrim(JobKeys.of(JOB).results, maxlen=0, approximate=False)
    assert feeder.sent == COUNT
    status = ledger.status(JOB)
    assert status is not None and status.finished
    pages = (ManifestLine(index, f"{index}.jpg", f"file:///{index}.jpg", 0) for index in range(COUNT))
    again = Feeder(app_for(settings), ledger, JOB, pages)
    while not again.exhausted:
        assert again.step() == 0


def test_a_step_ends_in_time_though_every_page_is_refused(
    ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: such a job kept its turn to its end, and no other job of the page was fed."""
    monkeypatch.setattr("producer.job.feed.STEP_S", 0.1)
    ledger.create(JOB, COUNT * 20, {})
    (tmp_path / "text.jpg").write_bytes(b"no picture at all")
    uri = (tmp_path / "text.jpg").as_uri()
    pages = (ManifestLine(index, "text.jpg", uri, 0) for index in range(COUNT * 20))
    with Uploader(ledger, JOB, limit_side=640, shrink=False) as uploader:
        feeder = Feeder(app_for(settings), ledger, JOB, pages, uploader=uploader)
        began = time.monotonic()
        assert feeder.step() == 0 and not feeder.exhausted
        assert time.monotonic() - began < 1
        done = ledger.status(JOB)
        assert done and 0 < done.failed < COUNT * 20
        assert feeder.step() == 0
        more = ledger.status(JOB)
        assert more and more.failed > done.failed


def test_a_step_ends_in_time_though_every_page_is_done(
    ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a resume. Before: ten million pages were passed over in one step of 80 s; the collector's lock lapsed."""
    monkeypatch.setattr("producer.job.feed.STEP_S", 0.0005)
    count = COUNT * 50
    ledger.create(JOB, count, {})
    ledger.client.setrange(JobKeys.of(JOB).state, 0, b"o" * (count - 10))
    pages = (ManifestLine(index, f"{index}.jpg", f"file:///{index}.jpg", 0) for index in range(count))
    feeder = Feeder(app_for(settings), ledger, JOB, pages)
    assert feeder.step() == 0 and not feeder.exhausted
    assert next(pages).index < count // 2
    steps, sent = 1, 0
    while not feeder.exhausted:
        steps, sent = steps + 1, sent + feeder.step()
    assert sent == 10 and steps > 3


def test_pages_that_are_done_are_not_asked_for(
    ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind some that are not. Before: 8 to 34 us each, of a million after a retry of the first 8 s and more."""
    monkeypatch.setattr("producer.job.feed.PASSED_AHEAD", 1000)
    asked, feed, count = list[int](), ledger.feed, 5000
    monkeypatch.setattr(ledger, "feed", lambda tasks: asked.extend(task.index for task in tasks) or feed(tasks))
    ledger.create(JOB, count, {})
    for first in (1, 2001):
        ledger.client.setrange(JobKeys.of(JOB).state, first, b"of" * 950)
    ledger.client.setrange(JobKeys.of(JOB).state, 3950, b"o" * 1049)
    ledger.grow(JOB, count + 3)
    pages = (ManifestLine(index, f"{index}.jpg", f"file:///{index}.jpg", 0) for index in range(count + 3))
    feeder = Feeder(app_for(settings), ledger, JOB, pages, window=Window(high=5000))
    while not feeder.exhausted:
        feeder.step()
    left = {0, *range(1901, 2001), *range(3901, 3950), *range(4999, count + 3)}
    assert set(ledger.in_flight(JOB)) == left and feeder.sent == len(left) and len(asked) < len(left) + 6 * 64


def test_what_is_weighed_counts_as_many_times_as_it_has_records(ledger: Ledger) -> None:
    """By one of three looks, with a collector that takes the oldest meanwhile."""
    uncollected = Uncollected(ledger.client, "stream")

    def add(count: int, size: int) -> None:
        pipe = ledger.client.pipeline()
        for _ in range(count):
            pipe.xadd("stream", {"record": b"x" * size})
        pipe.execute()
        time.sleep(0.01)

    add(900, 100)
    assert uncollected.mean_bytes() == 100
    add(100, 5100)
    assert uncollected.mean_bytes() == 600
    ledger.client.xtrim("stream", maxlen=100, approximate=False)
    assert uncollected.mean_bytes() == 5100
    add(300, 100)
    assert uncollected.mean_bytes() == 1350
    ledger.client.xtrim("stream", maxlen=300, approximate=False)
    assert uncollected.mean_bytes() == 100
    ledger.client.delete("stream")
    assert uncollected.mean_bytes() == 0


def test_pages_whose_bytes_are_sent_need_not_follow_each_other(ledger: Ledger) -> None:
    """Those that a collector adds do not, beside a watched folder. Before: a traceback, or others' states."""
    ledger.create(JOB, 10, {})
    tasks = [ImageTask(job=JOB, index=index, image="a", uri="file:///a") for index in (2, 4, 7)]
    ledger.feed(tasks)
    for task in tasks:
        ledger.begin(JOB, task.index, redelivered=False)
        ledger.finish(JOB, task.index, ok=True, record=b"{}")
    with Uploader(ledger, JOB, limit_side=640, shrink=False) as uploader:
        lines = [ManifestLine(index, "a", "file:///a", 0) for index in (1, 2, 3, 7, 8, 7, 8)]
        assert [line.index for line in uploader.unsent(lines)] == [1, 3, 8, 8]
