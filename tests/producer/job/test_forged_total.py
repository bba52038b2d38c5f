"""Who has a password of ours writes another number of pages into a job before its records are collected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from producer.fleet_job import collect_job, feed_job, watch_job
from producer.growing.new_pages import append_pages
from producer.job.collect import Collector
from producer.job.output_folder import JobRequest, OutputFolder, state_folder
from producer.job.results_file import Line
from producer.sources.found_page import FoundPage
from tests.pictures import write_images
from tests.producer.job.test_damaged_jobs import PAGES, do, enqueue
from worker.app import app_for
from worker.broker.connection import connect
from worker.ledger.ledger import Ledger
from worker.messages import ImageTask
from worker.redis_keys import JobKeys
from worker.settings import Settings


@pytest.mark.parametrize("total", ["2", "1000", "-1", "0", "2 and heir"])
def test_where_its_list_is_all_records_are_collected(
    ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: str
) -> None:
    """Before: of 3 records in the place of 10 seven were refused, with exit 0; of -1 a traceback, each time."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    enqueue(ledger, settings, tmp_path, "job")
    number, heir = total.split()[0], "and" in total
    ledger.client.hset(JobKeys.of("job").job, mapping={"total": number} | ({"heir": "x"} if heir else {}))
    status = ledger.status("job")
    assert status
    for index in range(2, PAGES):
        do(ledger, ImageTask(job="job", index=index, image=f"{index}.png", uri="file:///a", epoch=status.epoch))
    results = tmp_path / "out" / "results.jsonl"
    done = collect_job(app_for(settings), ledger, "job", results, follow=False, quiet=True)
    assert (done.total, done.count, done.refused) == (PAGES, PAGES, 0)
    assert done.status.total == (2 if heir else PAGES)
    assert len(results.read_bytes().splitlines()) == PAGES


def enqueue_elsewhere(ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes then is done on a machine that does not have the list."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    enqueue(ledger, settings, tmp_path, "job")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))


@pytest.mark.parametrize("total", ["2", "-1", "0", "gone", "9" * 30])
def test_elsewhere_too(
    ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: str
) -> None:
    """Before: put aside, with exit 0."""
    enqueue_elsewhere(ledger, settings, tmp_path, monkeypatch)
    status = ledger.status("job")
    assert status
    for index in range(2, PAGES):
        do(ledger, ImageTask(job="job", index=index, image=f"{index}.png", uri="file:///a", epoch=status.epoch))
    key = JobKeys.of("job").job
    ledger.client.hset(key, "total", total) if total != "gone" else ledger.client.hdel(key, "total")
    results = tmp_path / "results.jsonl"
    for _ in range(2):  # the second one finds all in its file
        done = collect_job(app_for(settings), ledger, "job", results, follow=False, quiet=True)
        assert (done.total, done.count, done.refused) == (PAGES, PAGES, 0)
        assert len(results.read_bytes().splitlines()) == PAGES


def test_elsewhere_it_is_not_over_while_pages_are_on_their_way(
    ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where pages were never fed: of a smaller number it was complete, and the list for an heir went."""
    enqueue_elsewhere(ledger, settings, tmp_path, monkeypatch)
    ledger.client.hset(JobKeys.of("job").job, "total", 2)
    results = tmp_path / "results.jsonl"
    for _ in range(2):
        done = collect_job(app_for(settings), ledger, "job", results, follow=False, quiet=True)
        assert (done.total, done.count, done.refused) == (PAGES, 2, 0)
        ledger.unfeed("job", list(ledger.in_flight("job")))


@pytest.mark.parametrize("field", ["ok", "total", "tasks"])
def test_who_only_watches_comes_to_an_end(
    ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    """Before: a number that was wrong, or a task, held `watch` for ever, and `collect --follow` elsewhere."""
    enqueue_elsewhere(ledger, settings, tmp_path, monkeypatch)
    epoch = (status := ledger.status("job")) and status.epoch
    for index in range(PAGES):
        do(ledger, ImageTask(job="job", index=index, image=f"{index}.png", uri="file:///a", epoch=epoch or ""))
    if field == "tasks":
        ledger.client.hset(JobKeys.of("job").tasks, "1", '123 {"job":"job"}')
    else:
        ledger.client.hset(JobKeys.of("job").job, field, {"ok": 1000, "total": 2}[field])
    watch_job(app_for(settings), ledger, "job", quiet=True)
    done = collect_job(app_for(settings), ledger, "job", tmp_path / "out.jsonl", follow=True, quiet=True)
    assert (done.total, done.count) == (PAGES, PAGES)


def test_retried_pages_are_none_more(
    ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: "5 of 6 records", elsewhere, of a page whose failed record is on disk and that is on its way again."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    enqueue(ledger, settings, tmp_path, "job")
    epoch = state_folder("job").epoch
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    tasks = [ImageTask(job="job", index=index, image="a", uri="file:///a", epoch=epoch) for index in range(PAGES)]
    for task in tasks:
        do(ledger, task)
    for number in range(2):
        done = collect_job(app_for(settings), ledger, "job", tmp_path / "out.jsonl", follow=False, quiet=True)
        assert (done.total, done.count) == (PAGES, PAGES), number
        ledger.retry("job", [1])
        ledger.feed([tasks[1]])


def test_who_feeds_puts_the_number_right(ledger: Ledger, settings: Settings, tmp_path: Path) -> None:
    """Before: with no collector beside it, it ended with 300 of 600 pages, of none with 0, and exit 0."""
    write_images(tmp_path / "in", PAGES)
    folder = OutputFolder(tmp_path / "job")
    request = JobRequest(job="job", sources=[str(tmp_path / "in")])
    app = app_for(settings)
    feed_job(folder, request, app, ledger, watching=False, quiet=True)
    key = JobKeys.of("job").job
    for number, total in enumerate(["2", "x", "-3", ""], 1):
        ledger.client.hset(key, "total", total) if total else ledger.client.hdel(key, "total")
        fed = feed_job(folder, request, app, ledger, watching=False, quiet=True)
        assert (fed.status.total, fed.status.in_flight) == (PAGES, PAGES), number


def test_records_of_pages_that_a_watched_folder_adds_are_collected(
    tmp_path: Path, ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: a collector that was at work beside it put them aside, out of Redis; exit 0, "4 of 4"."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    enqueue(ledger, settings, tmp_path, "job")
    manifest = state_folder("job").manifest
    drain = Collector.drain

    def drain_and_add(self: Collector) -> Iterator[list[Line]]:
        yield from drain(self)
        append_pages(manifest, [FoundPage("z.png", "file:///z.png", 0)] * 2)
        epoch = state_folder("job").epoch
        task = ImageTask(job="job", index=PAGES + 1, image="z.png", uri="file:///z.png", epoch=epoch)
        ledger.grow("job", PAGES + 2)
        ledger.feed([task])
        do(ledger, task)
        yield from drain(self)

    monkeypatch.setattr(Collector, "drain", drain_and_add)
    done = collect_job(app_for(settings), ledger, "job", tmp_path / "out.jsonl", follow=False, quiet=True)
    assert (done.total, done.count, done.refused) == (PAGES + 2, 3, 0)


def test_a_record_far_behind_a_forged_end_is_asked_for_alone(
    ledger: Ledger, settings: Settings, tmp_path: Path
) -> None:
    """Before: the states of all pages in between were asked for: too long a reply, and the record was thrown away."""
    far = 6_000_000
    ledger.create("job", far + 1, {}, epoch="e")
    task = ImageTask(job="job", index=far, image="z.png", uri="file:///z.png", epoch="e")
    ledger.feed([task])
    do(ledger, task)
    ledger.put_right("job", 10)
    with (
        closing(connect(settings)) as client,
        Collector(Ledger(client, ttl_s=60), "job", tmp_path / "results.jsonl", 10) as collector,
    ):
        assert len(collector.step(block_ms=0)) == 1 and collector.aside.count == 0
