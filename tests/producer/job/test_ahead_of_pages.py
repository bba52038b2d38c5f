"""What somebody wrote once into a job's stream of records, ahead of its pages, decides nothing of them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from producer.job.collect import Collector
from producer.job.collecting import few_at_first
from tests.producer.job.test_collect import JOB, finish, on_disk
from worker.ledger.ledger import Ledger
from worker.messages import ImageRecord, ImageTask, encode
from worker.redis_keys import JobKeys

KEYS = JobKeys.of(JOB)
PAGES = 60


@pytest.fixture
def job(ledger: Ledger) -> Ledger:
    ledger.create(JOB, PAGES, {})
    return ledger


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def forge(ledger: Ledger, index: int) -> None:
    record = ImageRecord(job=JOB, index=index, image="forged", page=0, status="ok")
    ledger.client.xadd(KEYS.results, {"record": encode(record)})


def names(results: Path) -> dict[int, str]:
    lines = results.read_bytes().splitlines()
    found = {line["index"]: line["image"] for line in map(json.loads, lines)}
    assert len(found) == len(lines), "each page once"
    return found


def test_a_record_of_a_page_that_is_not_done_is_none(job: Ledger, results: Path) -> None:
    """Before: it was the page's, and the true one, which came later, was thrown away without a word; exit 0."""
    forge(job, 3)
    with Collector(job, JOB, results, PAGES) as collector:
        assert list(collector.drain()) == [[]] and collector.aside.count == 1
        finish(job, 3)
        assert [line.image for line in collector.step(block_ms=0)] == ["3.jpg"]
    assert names(results) == {3: "3.jpg"}
    assert "not done" in (results.parent / ".ocrfleet" / "quarantine.jsonl").read_text()


@pytest.mark.parametrize("batch", [4, 16, few_at_first.BATCH])
def test_of_two_that_wait_the_one_that_came_with_the_end_is_true(
    job: Ledger, results: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """Who collects now and then finds both. Before: the forged ones were taken."""
    monkeypatch.setattr(few_at_first, "FIRST_BATCH", batch)
    monkeypatch.setattr(few_at_first, "BATCH", batch)
    for index in range(24):
        forge(job, index)
    for index in range(30):
        finish(job, index)
    with Collector(job, JOB, results, PAGES) as killed:
        killed.step(block_ms=0)  # what it read is gone from the broker: the next knows of no other record
    with Collector(job, JOB, results, PAGES) as collector:
        for _ in collector.drain():
            pass
        assert (collector.count, collector.failed, job.client.xlen(KEYS.results)) == (30, 0, 0)
        forge(job, 2)  # when the true one is on disk
        assert list(collector.drain()) == [[]]
    assert names(results) == {index: f"{index}.jpg" for index in range(30)}
    assert not job.client.exists(KEYS.entries), "none is kept of what was collected"


def test_an_entry_of_before_is_not_that_of_a_page_that_is_fed(job: Ledger, results: Path) -> None:
    """Nor what somebody wrote there ahead of it, of any length or type; a worker of the version before writes none."""
    job.client.hset(KEYS.entries, mapping={"3": "1-1", "4": "x" * 100_000})
    finish(job, 3)
    finish(job, 4)
    job.client.hset(KEYS.entries, "4", "x" * 100_000)  # when it is done
    finish(job, 5)
    job.client.hdel(KEYS.entries, "5")
    with Collector(job, JOB, results, PAGES) as collector:
        assert [line.index for line in collector.step(block_ms=0)] == [3, 4, 5] and not collector.aside.count
    job.client.delete(KEYS.entries)
    job.client.set(KEYS.entries, "x")
    finish(job, 6)
    job.client.delete(KEYS.entries)
    job.client.set(KEYS.entries, "x")
    with Collector(job, JOB, results, PAGES) as collector:
        assert [line.index for line in collector.step(block_ms=0)] == [6]


def test_the_record_of_a_page_that_failed_while_retry_looked_goes_too(job: Ledger, results: Path) -> None:
    finish(job, 3, ok=False)
    assert job.retry(JOB, [3], {}) == 1
    finish(job, 3)
    with Collector(job, JOB, results, PAGES) as collector:
        collector.step(block_ms=0)
        assert not collector.aside.count
    assert on_disk(results) == [(3, "ok")]


def test_a_stream_that_began_anew_has_other_entries(job: Ledger, results: Path) -> None:
    finish(job, 3)
    job.client.xadd(KEYS.results, {"record": "x"}, id=f"{2**64 - 1}-{2**64 - 1}")
    finish(job, 4)
    with Collector(job, JOB, results, PAGES) as collector:
        assert [line.index for lines in collector.drain() for line in lines] == [3, 4]


def test_a_page_that_gets_done_between_two_questions(
    job: Ledger, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge(job, 3)
    with Collector(job, JOB, results, PAGES) as collector:
        waiting = collector._waiting
        monkeypatch.setattr(
            collector, "_waiting", lambda: (waiting(), job.states(JOB, 3, 1) == b"\0" and finish(job, 3))[0]
        )
        collector.step(block_ms=0)
        collector.step(block_ms=0)
    assert names(results) == {3: "3.jpg"}


def test_an_ok_record_of_a_page_that_failed_is_none(job: Ledger, results: Path) -> None:
    forge(job, 3)
    finish(job, 3, ok=False)
    with Collector(job, JOB, results, PAGES) as collector:
        collector.step(block_ms=0)
    assert on_disk(results) == [(3, "failed")]


def test_a_connection_that_is_lost_before_the_removal_doubles_nothing(
    job: Ledger, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):
        finish(job, index)
    with Collector(job, JOB, results, PAGES) as collector:
        with monkeypatch.context() as patch:
            patch.setattr(collector, "_remove", lambda *arguments: (_ for _ in ()).throw(ConnectionError))
            with pytest.raises(ConnectionError):
                collector.step(block_ms=0)
        size = results.stat().st_size
        assert collector.step(block_ms=0) == [] and results.stat().st_size == size


def test_states_of_another_type_are_none(job: Ledger, results: Path) -> None:
    finish(job, 3)
    job.client.delete(KEYS.state)
    job.client.rpush(KEYS.state, "o")
    with Collector(job, JOB, results, PAGES) as collector:
        assert collector.step(block_ms=0) == [] and collector.aside.count == 1


def test_what_is_no_news_ends_no_collecting(job: Ledger, results: Path) -> None:
    """Before: one batch of it did, 16 of 20,000; `collect` had to be repeated 1,250 times, a killed one's 16 times."""
    pipe = job.client.pipeline(transaction=False)
    for _ in range(600):
        pipe.xadd(KEYS.results, {"record": "x"})
    pipe.execute()
    finish(job, 3)
    with Collector(job, JOB, results, PAGES) as collector:
        assert [line.index for lines in collector.drain() for line in lines] == [3]


def test_what_no_collector_takes_away_stays_small(job: Ledger, results: Path) -> None:
    """One of the version before does not; it goes where nothing waits."""
    strange = dict.fromkeys(map(str, range(100, 2000)), "1-1")
    job.client.hset(KEYS.entries, mapping=strange)
    finish(job, 3)
    assert job.client.hkeys(KEYS.entries) == [b"3"]
    job.client.hset(KEYS.entries, mapping=strange)
    with Collector(job, JOB, results, PAGES) as collector:
        assert len(collector.step(block_ms=0)) == 1
    assert not job.client.exists(KEYS.entries)


MOST = 2**64 - 1


@pytest.mark.parametrize("last", [f"{MOST}-{MOST}", f"{MOST}-{MOST - 4}", f"{MOST - 1}-{MOST - 4}", "fields"])
def test_no_forged_record_becomes_true_where_the_stream_begins_anew(job: Ledger, results: Path, last: str) -> None:
    """Before: what was noted of each page's entry went with the stream, or above 65,536, and the forged came first."""
    finish(job, 20)
    job.client.hdel(KEYS.entries, "20")  # by a worker of the version before
    finish(job, 21)
    for index in range(10):
        forge(job, index)
    if last == "fields":
        job.client.hset(KEYS.entries, mapping=dict.fromkeys(map(str, range(100, 66_000)), ""))
    else:
        job.client.xadd(KEYS.results, {"x": "y"}, id=last)
    for index in range(10):
        finish(job, index)
    with Collector(job, JOB, results, PAGES) as collector:
        for _ in collector.drain():
            pass
        found = names(results)
        assert not [name for name in found.values() if name == "forged"]
        assert found.keys() >= {*range(10), 21}
        assert collector.aside.count >= 10 and not job.client.exists(KEYS.entries)


def test_an_entry_that_waits_no_more_is_an_earlier_trys(job: Ledger, results: Path) -> None:
    """A new worker's, taken by a collector of the version before; then a worker of that version did the page again."""
    job.client.hset(KEYS.entries, "3", "1-1")
    finish(job, 3)
    job.client.hset(KEYS.entries, "3", "1-1")
    with Collector(job, JOB, results, PAGES) as collector:
        assert len(collector.step(block_ms=0)) == 1 and not collector.aside.count


@pytest.mark.parametrize("is_last", [True, False])
def test_a_stream_is_not_left_to_fill_when_its_stranger_likes(job: Ledger, results: Path, is_last: bool) -> None:
    """Before: it began anew 50 records later, or 7,900, and all but 16 MB of those that waited by then were gone."""
    last = MOST - 1 if is_last else int(time.time() + 2 * 86_400) * 1000
    finish(job, 3)
    job.client.xadd(KEYS.results, {"x": "y"}, id=f"{last}-{MOST - 50}")
    finish(job, 4)
    [(entry, _)] = job.client.xrevrange(KEYS.results, count=1)
    assert int(entry.split(b"-")[0]) < (time.time() + 86_400) * 1000
    with Collector(job, JOB, results, PAGES) as collector:
        for _ in collector.drain():
            pass
    assert names(results) == {3: "3.jpg", 4: "4.jpg"}


@pytest.mark.parametrize("is_large", [True, False])
def test_a_clock_that_was_put_right_loses_no_record(job: Ledger, results: Path, is_large: bool) -> None:
    """Before: of 40 MiB that waited, as a feeder lets, 16 MB stayed, and none above 256 KB."""
    ahead = int(time.time() + 2 * 86_400) * 1000
    assert job.feed([ImageTask(job=JOB, index=0, image="0.jpg", uri="file:///0.jpg")])
    record = encode(ImageRecord(job=JOB, index=0, image="0.jpg", page=0, status="ok"))
    assert job.finish(JOB, 0, ok=True, record=record[:-1] + b',"pad":"' + b"a" * 300_000 * is_large + b'"}')
    [(_, fields)] = job.client.xrange(KEYS.results)
    job.client.delete(KEYS.results)
    job.client.xadd(KEYS.results, fields, id=f"{ahead}-0")
    job.client.hset(KEYS.entries, "0", f"{ahead}-0")
    finish(job, 1)

    def is_ahead() -> bool:
        [(entry, _)] = job.client.xrevrange(KEYS.results, count=1)
        return int(entry.split(b"-")[0]) >= ahead

    assert is_ahead() == is_large, "with all that waits, or not at all"
    with Collector(job, JOB, results, PAGES) as collector:
        for _ in collector.drain():
            pass
        finish(job, 2)
        assert not is_ahead(), "few wait by now"
        for _ in collector.drain():
            pass
    assert set(names(results)) == {0, 1, 2}


@pytest.mark.slow
@pytest.mark.parametrize(("stream_mb", "notes_mb"), [(0, 9), (0, 17), (49, 9), (49, 17)])
def test_notes_that_are_too_large_make_no_forged_record_true_and_no_true_one_none(
    job: Ledger, results: Path, stream_mb: int, notes_mb: int
) -> None:
    """Who looks after a job keeps its keys small. Before, all notes went, also where those of later pages crossed it.

    Where the stream is too large to look through, and the notes too large to be read, nothing that waits is believed.
    """
    job.client.hset(KEYS.entries, mapping={f"x{number}": "x" * (1 << 20) for number in range(notes_mb)})
    for index in range(3):
        forge(job, index)
        finish(job, index)
    for _ in range(stream_mb):
        job.client.xadd(KEYS.results, {"x": "x" * (1 << 20)})
    job.client.hset(KEYS.job, "kept_ms", "0")
    assert job.touch(JOB)
    assert job.client.memory_usage(KEYS.entries, samples=0) < 1000
    finish(job, 4)
    kept = {} if stream_mb and notes_mb > 16 else {0: "0.jpg", 1: "1.jpg", 2: "2.jpg"}
    with Collector(job, JOB, results, PAGES) as collector:
        for _ in collector.drain():
            pass
        assert names(results) == {**kept, 4: "4.jpg"}
        assert collector.aside.count == 6 - len(kept) + stream_mb
        assert not job.client.exists(KEYS.entries)
