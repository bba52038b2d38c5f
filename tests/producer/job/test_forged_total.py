"""Who has a password of ours writes another number of pages into a job before its records are collected."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.fleet_job import collect_job, feed_job
from producer.job.output_folder import JobRequest, OutputFolder
from tests.pictures import write_images
from tests.producer.job.test_damaged_jobs import PAGES, do, enqueue
from worker.app import app_for
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


@pytest.mark.parametrize("total", ["2", "-1", "0", "gone", "9" * 30])
def test_elsewhere_too(
    ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: str
) -> None:
    """Before: put aside, with exit 0."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    enqueue(ledger, settings, tmp_path, "job")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
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
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    enqueue(ledger, settings, tmp_path, "job")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    ledger.client.hset(JobKeys.of("job").job, "total", 2)
    results = tmp_path / "results.jsonl"
    for _ in range(2):
        done = collect_job(app_for(settings), ledger, "job", results, follow=False, quiet=True)
        assert (done.total, done.count, done.refused) == (PAGES, 2, 0)
        ledger.unfeed("job", list(ledger.in_flight("job")))


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
