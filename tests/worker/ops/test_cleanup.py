"""The nightly cleanup: old things go, live things stay, twice is harmless."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from worker.app import DETECT_TASK
from worker.ledger import Ledger
from worker.messages import ImageTask
from worker.ops.cleanup import (
    REPORTS_KEY,
    clean_redis,
    clean_redis_once,
    clean_spool,
    last_reports,
    remember_report,
    report_line,
)
from worker.redis_keys import JOBS_KEY, JobKeys
from worker.settings import Settings
from worker.storage.spool import open_spool


def aged(path: Path, seconds: float) -> Path:
    path.write_bytes(b"x" * 10)
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_only_old_files_of_the_spool_go(settings: Settings, tmp_path: Path) -> None:
    spool = settings.spool
    open_spool(spool)
    old, young = aged(spool / "page-old.jpg", 7200), aged(spool / "page-young.jpg", 10)
    outside = aged(tmp_path / "precious.jpg", 7200)
    (spool / "link").symlink_to(outside)
    hourly = replace(settings, temp_ttl_h=1.0)
    assert clean_spool(hourly, dry_run=True) == {"files": 1, "bytes": 10}
    assert old.exists()
    assert clean_spool(hourly) == {"files": 1, "bytes": 10}
    assert not old.exists() and young.exists() and outside.exists()
    assert clean_spool(hourly) == {"files": 0, "bytes": 0}


def test_very_many_old_files_are_not_held(settings: Settings) -> None:
    """Before: all of them at once, 0.9 GB of a million, in a worker's child."""
    open_spool(settings.spool)
    first = aged(settings.spool / "page-0.jpg", 7200)
    for number in range(1, 1000):
        os.link(first, settings.spool / f"page-{number}.jpg")
    tracemalloc.start()
    try:
        assert clean_spool(replace(settings, temp_ttl_h=1.0)) == {"files": 1000, "bytes": 10_000}
        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()
    assert not list(settings.spool.iterdir())


def test_no_file_of_the_users_goes(settings: Settings) -> None:
    """Before: every file of OCRFLEET_SPOOL_DIR older than a day was deleted, somebody's thesis too."""
    hourly = replace(settings, temp_ttl_h=1.0)
    open_spool(hourly.spool)
    theirs = [
        aged(hourly.spool_dir / "thesis.tex", 7200),
        aged(hourly.spool_dir / "page-1.jpg", 7200),
        aged(hourly.spool / "notes.txt", 7200),
    ]
    assert clean_spool(hourly) == {"files": 0, "bytes": 0}
    assert all(file.exists() for file in theirs)


def test_a_folder_without_our_mark_is_left_alone(settings: Settings) -> None:
    settings.spool.mkdir(parents=True, mode=0o700)
    old = aged(settings.spool / "page-old.jpg", 7200)
    assert clean_spool(replace(settings, temp_ttl_h=1.0)) == {"files": 0, "bytes": 0}
    assert old.exists()


def test_a_full_broker_is_cleaned_too(ledger: Ledger, settings: Settings, set_full: Callable[[bool], None]) -> None:
    ledger.create("old", 3, {})
    ledger.client.hset(JobKeys.of("old").job, mapping={"created_ms": 1, "kept_ms": 1})
    set_full(True)
    report = {**clean_spool(settings), **clean_redis_once(ledger, settings)}
    remember_report(ledger, report)
    assert report["jobs"] == 1 and ledger.jobs() == []


def test_a_missing_spool_is_no_error(settings: Settings) -> None:
    assert clean_spool(settings) == {"files": 0, "bytes": 0}


@pytest.fixture
def two_jobs(ledger: Ledger) -> Ledger:
    """One job without activity for two hours, one alive."""
    for job in ("old", "live"):
        ledger.create(job, 1, {})
        ledger.feed([ImageTask(job=job, index=0, image="a", uri="file:///a")])
        ledger.begin(job, 0, redelivered=False)
        ledger.finish(job, 0, ok=True, record=b"{}")
    long_ago = int((time.time() - 7200) * 1000)
    fields = dict.fromkeys(("created_ms", "progress_ms", "finished_ms", "fed_ms", "kept_ms"), long_ago)
    ledger.client.hset(JobKeys.of("old").job, mapping=fields)
    return ledger


def test_old_jobs_go_with_all_their_keys(two_jobs: Ledger, settings: Settings) -> None:
    hourly = replace(settings, result_ttl_h=1.0)
    assert clean_redis(two_jobs, hourly, dry_run=True)["jobs"] == 1
    assert two_jobs.status("old") is not None
    report = clean_redis(two_jobs, hourly)
    assert report["jobs"] == 1 and report["keys"] >= 3
    assert two_jobs.client.keys("ocrfleet:job:old*") == []
    assert two_jobs.jobs() == ["live"]
    live = two_jobs.status("live")
    assert live is not None and live.uncollected == 1
    assert clean_redis(two_jobs, hourly) == {"jobs": 0, "keys": 0}


def test_a_job_that_somebody_collects_or_watches_stays(two_jobs: Ledger, settings: Settings) -> None:
    """Before: a fleet that was off from Friday to Monday evening had no job, though `collect --follow` was at work."""
    two_jobs.touch("old")
    assert clean_redis(two_jobs, replace(settings, result_ttl_h=1.0)) == {"jobs": 0, "keys": 0}


def test_keys_without_a_ttl_get_one(two_jobs: Ledger, settings: Settings) -> None:
    two_jobs.client.set("ocrfleet:job:ghost:state", b"x")
    two_jobs.client.persist(JobKeys.of("live").state)
    clean_redis(two_jobs, settings)
    assert two_jobs.client.ttl("ocrfleet:job:ghost:state") > 0
    assert two_jobs.client.ttl(JobKeys.of("live").state) > 0


def test_what_versions_before_left_in_kombus_own_list_goes(ledger: Ledger, settings: Settings) -> None:
    """They used kombu's names, which another Celery app on the database may use too: its messages stay."""
    now = ledger.now()
    for tag, task, since in (("old", "job:0", 1.0), ("new", "job:1", now), ("theirs", "uuid", 1.0)):
        headers = {"id": task, "task": DETECT_TASK}
        ledger.client.hset("unacked", tag, json.dumps([{"headers": headers}, "", ""]))
        ledger.client.zadd("unacked_index", {tag: since})
    clean_redis(ledger, settings)
    assert sorted(ledger.client.hkeys("unacked")) == [b"new", b"theirs"]
    assert sorted(ledger.client.zrange("unacked_index", 0, -1)) == [b"new", b"theirs"]


def test_one_worker_of_the_fleet_does_redis(ledger: Ledger, settings: Settings) -> None:
    assert clean_redis_once(ledger, settings) == {"jobs": 0, "keys": 0}
    assert clean_redis_once(ledger, settings) == {}


def test_reports_are_kept_per_machine(ledger: Ledger) -> None:
    remember_report(ledger, {"files": 2, "bytes": 5_000_000, "jobs": 1, "keys": 7})
    ledger.client.hset(REPORTS_KEY, "digits", '{"files": 1, "at": 5, "bytes": 1%s}' % ("0" * 400))
    ledger.client.hset(REPORTS_KEY, "later", '{"files": 1, "at": 1099511627775, "bytes": 1}')  # no other was late then
    (report,) = last_reports(ledger.client).values()
    assert report["files"] == 2 and report["keys"] == 7
    assert "2 temporary files (5.0 MB), 1 old jobs, 7 keys" in report_line(report)


def test_a_job_that_the_index_does_not_name_is_listed_again(ledger: Ledger, settings: Settings) -> None:
    """Whoever may write to Redis may drop the index; a job that nobody works at would not be found again."""
    ledger.create("job", 1, {})
    created = ledger.client.zscore(JOBS_KEY, "job")
    ledger.client.delete(JOBS_KEY)
    ledger.client.sadd("ocrfleet:job:other", "x")
    assert clean_redis(ledger, settings, sweep=False)["jobs"] == 0 and ledger.jobs() == []
    clean_redis(ledger, settings)
    assert ledger.jobs() == ["job"] and abs(ledger.client.zscore(JOBS_KEY, "job") - created) < 1
