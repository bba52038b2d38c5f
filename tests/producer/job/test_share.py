"""Several jobs at once take turns, however much of the first one waits; one alone has the whole window."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from producer.job.feed import Feeder, Window
from producer.job.manifest import ManifestLine
from producer.job.upload import Uploader
from worker.app import IMAGE_QUEUE, app_for
from worker.broker import queue
from worker.broker.urgent import MOST_LOOKED_AT
from worker.ledger import Ledger
from worker.ledger.share import AT_LEAST, Share, room_in_share
from worker.messages import split_task_id
from worker.redis_keys import JOBS_KEY, JobKeys
from worker.settings import Settings


def feeder(settings: Settings, ledger: Ledger, job: str, pages: int, *, urgent: bool = False) -> Feeder:
    ledger.create(job, pages, {})
    lines = (ManifestLine(index, f"{index}.jpg", "file:///a.jpg", 0) for index in range(pages))
    return Feeder(app_for(settings), ledger, job, lines, urgent=urgent)


def done(ledger: Ledger, count: int) -> list[str]:
    """What workers would: take so many messages and record their pages. Returns their task ids."""
    taken = []
    for _ in range(count):
        raw = ledger.client.rpop(IMAGE_QUEUE)
        assert raw is not None
        taken.append(json.loads(raw)["headers"]["id"])
        job, index = split_task_id(taken[-1]) or ("", 0)
        ledger.begin(job, index, redelivered=False)
        assert ledger.finish(job, index, ok=True, record=b"{}")
    return taken


def test_a_small_job_does_not_wait_for_a_big_ones_window(ledger: Ledger, settings: Settings) -> None:
    """Before: nothing of it was sent while the window was full, and then behind it: after 128 to 256 pages."""
    big = feeder(settings, ledger, "big", 1000)
    assert big.step() == 256, "alone it has the whole window"
    done(ledger, 1)
    assert big.step() == 0
    small = feeder(settings, ledger, "small", 5)
    assert small.step() == 5
    order = done(ledger, 10)
    assert order == [name for index in range(5) for name in (f"big:{index + 1}", f"small:{index}")]
    assert done(ledger, 3) == ["big:6", "big:7", "big:8"]


def test_big_jobs_share_the_window_and_take_turns(ledger: Ledger, settings: Settings) -> None:
    feeders = [feeder(settings, ledger, name, 1000) for name in ("one", "two")]
    assert [each.step() for each in feeders] == [256, 128], "a half for the second"
    order: list[str] = []
    for _ in range(20):
        order += done(ledger, 32)
        for each in feeders:
            each._share._looked_at = 0  # a second later
            each.step()
        assert sum(queue.depth(ledger.client)) <= 256 + 128
    assert len(set(order)) == len(order) == 640
    late = order[320:]
    assert abs(sum(name.startswith("one:") for name in late) - 160) <= 16, "half of the workers for each"
    for job in ("one", "two"):
        mine = [index for name, index in map(split_task_id, order) if name == job]
        assert mine == sorted(mine), "in the manifest's order"


def test_urgent_pages_stay_before_those_that_take_turns(ledger: Ledger, settings: Settings) -> None:
    feeder(settings, ledger, "big", 1000).step()
    feeder(settings, ledger, "soon", 3, urgent=True).step()
    feeder(settings, ledger, "small", 2).step()
    assert done(ledger, 7) == ["soon:0", "soon:1", "soon:2", "big:0", "small:0", "big:1", "small:1"]


def test_bytes_are_shared_too(ledger: Ledger, settings: Settings, tmp_path: Path) -> None:
    """``--transfer redis``: before, a big job's bytes filled their window, and a small job waited for them to go."""
    image = tmp_path / "a.jpg"
    image.write_bytes(b"\xff\xd8\xff" + bytes(10_000))
    sent = {}
    for job in ("big", "small"):
        ledger.create(job, 20, {})
        lines = [ManifestLine(index, "a.jpg", image.as_uri(), 0) for index in range(20)]
        with Uploader(ledger, job, limit_side=0, shrink=False) as uploader:
            window = Window(bytes=100_500)
            each = Feeder(app_for(settings), ledger, job, lines, uploader=uploader, window=window)
            while each.step():
                pass
            sent[job] = each.sent
    assert sent == {"big": 10, "small": 5}


def test_a_queue_longer_than_is_looked_at(ledger: Ledger, settings: Settings) -> None:
    app = app_for(settings)
    lines = (ManifestLine(index, f"{index}.jpg", "file:///a.jpg", 0) for index in range(600))
    ledger.create("big", 600, {})
    Feeder(app, ledger, "big", lines, window=Window(low=500, high=600)).step()
    assert feeder(settings, ledger, "small", 2).step() == 2
    assert queue.depth(ledger.client)[0] == 602 > MOST_LOOKED_AT
    assert done(ledger, 5) == ["big:0", "small:0", "big:1", "small:1", "big:2"]


@pytest.mark.parametrize(
    ("in_flight", "jobs", "room"),
    [(0, 2, 128), (64, 2, 64), (65, 2, 0), (256, 2, 0), (0, 100, AT_LEAST), (8, 100, 8), (9, 100, 0)],
)
def test_shares(in_flight: int, jobs: int, room: int) -> None:
    assert room_in_share(in_flight, jobs, 128, 256) == room


def test_jobs_at_which_nothing_is_done_take_no_part(ledger: Ledger) -> None:
    """Before: 255 that somebody made up left each real one 16 pages on their way, for as long as their keys lived."""
    client, now = ledger.client, int(ledger.now() * 1000)
    made_up = {
        "old": {"created_ms": now - 901_000, "progress_ms": now - 901_000},
        "future": {"fed_ms": now + 10**12},
        "word": {"progress_ms": "x" * 10, "fed_ms": "9" * 5000},
        "nothing": {"total": 5},
        "lately": {"created_ms": 1, "progress_ms": now - 60_000},
    }
    for name, fields in made_up.items():
        client.zadd(JOBS_KEY, {name: 1})
        client.hset(JobKeys.of(name).job, mapping=fields)  # type: ignore[arg-type]
        client.hset(JobKeys.of(name).tasks, "0", "1 {}")
    for name, key in (("set", JobKeys.of("set").job), ("tasks", JobKeys.of("tasks").tasks)):
        client.zadd(JOBS_KEY, {name: 1})
        client.sadd(key, "x")
    client.hset(JobKeys.of("set").tasks, "0", "1 {}")
    assert Share(ledger, "mine").others() == 1 and Share(ledger, "lately").others() == 0
