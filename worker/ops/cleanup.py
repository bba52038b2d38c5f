"""Nightly cleanup: old temporary files on every machine, dead keys in Redis once for the fleet. Harmless to repeat."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import redis
from redis.exceptions import NoPermissionError, OutOfMemoryError

from detector.record import UNREADABLE, Count
from worker.broker import locks, queue
from worker.broker.clock import redis_now
from worker.broker.unacked import AHEAD_S, settle
from worker.broker.whole import read_hash
from worker.ledger import Ledger
from worker.ledger.answers import JobStatus
from worker.ledger.job_names import MOST_JOBS, job_names
from worker.messages import JOB_NAME
from worker.ops import worker_registry
from worker.ops.foreign_keys import CLEANUP_LOCK, remove_foreign, unbound_keys
from worker.ops.key_scan import key_names
from worker.ops.server_memory import free_what_is_no_key
from worker.redis_keys import DEAD_KEY, JOBS_KEY, REPORTS_KEY, JobKeys, number_in
from worker.settings import Settings
from worker.storage.held_copies import is_held, is_left
from worker.storage.spool import SPOOL_PREFIX, is_our_spool

# Long enough that the same broadcast does not run the pass twice, short enough that tomorrow's does.
LOCK_S = 60
_TIMES = ("created_ms", "progress_ms", "finished_ms", "fed_ms", "kept_ms")


def old_files(spool: Path, older_than_s: float, now: float | None = None) -> Iterator[Path]:
    """Our own files directly in our own spool that nobody needs. Links are never followed.

    A copy that was locked goes when its process is gone, whatever its age; others when unchanged for so long.

    Nothing else is removed: OCRFLEET_SPOOL_DIR may be a folder with files of other programs.
    """
    if not is_our_spool(spool):
        return
    limit = (time.time() if now is None else now) - older_than_s
    # One at a time, also while they are removed: a list of a million was 0.9 GB of a worker's child. What a file system
    # passes over since its neighbour went is there for the next pass.
    with suppress(OSError), os.scandir(spool) as entries:
        for entry in entries:
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                ours = entry.name.startswith(SPOOL_PREFIX) and status.st_uid == os.geteuid()
                path = Path(entry.path)
                if not (ours and entry.is_file(follow_symlinks=False)):
                    continue
                if is_left(path) if is_held(entry.name) else status.st_mtime < limit:
                    yield path


def clean_spool(settings: Settings, *, dry_run: bool = False) -> dict[str, int]:
    """Remove this machine's old temporary files. Returns ``{"files": n, "bytes": n}``."""
    count = size = 0
    for path in old_files(settings.spool, settings.temp_ttl_h * 3600):
        try:
            length = path.stat().st_size
            if not dry_run:
                path.unlink()
        except OSError:
            continue  # another process was quicker
        count, size = count + 1, size + length
    return {"files": count, "bytes": size}


def expired_jobs(ledger: Ledger, older_than_s: float, now: float | None = None) -> Iterator[str]:
    """Jobs with no activity for so long, by the broker's clock, and names whose keys are already gone.

    As they are found: of very many a pass that runs out of time has removed some, and the next one goes on.
    """
    limit = (ledger.now() if now is None else now) - older_than_s
    for name in job_names(ledger.client, 0, MOST_JOBS - 1):
        status = ledger.status(name)
        if status is None or max(_times(status)) < limit:
            yield name


def _times(status: JobStatus) -> tuple[float, ...]:
    """When somebody was last at work for a job, in the order of `_TIMES`; also who only collects or watches it."""
    return (status.created_s, status.progress_s, status.finished_s or 0, status.fed_s, status.kept_s)


def bring_back(ledger: Ledger) -> None:
    """Times of jobs that lie ahead become now: else such a job never expires.

    Not those of a minute, which a clock that was set right may make; and it is not dropped at once, for all times of a
    job may lie ahead where Redis' clock was set back.
    """
    for name in job_names(ledger.client, 0, MOST_JOBS - 1):
        status = ledger.status(name)
        if status is not None:
            now_ms, most = int(status.now_s * 1000), status.now_s + AHEAD_S
            ahead = {field: now_ms for field, at in zip(_TIMES, _times(status), strict=True) if at > most}
            if ahead:
                ledger.note(name, ahead)


def keys_of_known_jobs(client: redis.Redis) -> Iterator[bytes]:
    """The keys that jobs of the index may have, whether they exist or not."""
    for name in job_names(client, 0, MOST_JOBS - 1):
        keys = JobKeys.of(name)
        yield from (key.encode() for key in (*keys, f"{keys.job}:collector"))


def orphan_keys(ledger: Ledger, *, sweep: bool) -> Iterator[tuple[bytes, int]]:
    """Keys of jobs that live longer than they may, and how long that is: left by a crash between two steps.

    Args:
        ledger: of the broker.
        sweep: look at all keys (SCAN), not only at those of jobs in the index. A user that may SCAN reads the names of
            other programs' keys, so workers may not; `ocr-worker cleanup` on the hub may.
    """
    if sweep:
        yield from unbound_keys(ledger.client, ledger.ttl_s)
        return
    for key in keys_of_known_jobs(ledger.client):
        if ledger.client.ttl(key) == -1:
            yield key, ledger.ttl_s


def list_again(client: redis.Redis) -> None:
    """Jobs that the index does not name, since somebody else dropped it, and that nobody works at: into the index."""
    base = JobKeys.of("").job
    for key in key_names(client, "hash"):
        whole = key.decode(errors="replace")
        name = whole.removeprefix(base)
        if name != whole and JOB_NAME.match(name) and client.zscore(JOBS_KEY, name) is None:
            created = number_in(client.hget(key, "created_ms") or b"")
            client.zadd(JOBS_KEY, {name: (created or 0) / 1000}, nx=True)


def clean_redis(ledger: Ledger, settings: Settings, *, dry_run: bool = False, sweep: bool = True) -> dict[str, int]:
    """Remove finished jobs past their TTL with their results, and stray keys. Returns ``{"jobs": n, "keys": n}``.

    Args:
        ledger: of the broker.
        settings: how old is too old.
        dry_run: only count.
        sweep: see `orphan_keys`.
    """
    jobs = keys = 0
    if sweep:  # first: they may be what fills the broker
        if not dry_run:
            free_what_is_no_key(ledger.client)
        keys = remove_foreign(ledger.client, dry_run=dry_run)
    if not dry_run:
        with suppress(OutOfMemoryError):  # a full broker takes no writes, only removals
            if sweep:
                list_again(ledger.client)
            bring_back(ledger)
    for job in expired_jobs(ledger, settings.result_ttl_h * 3600):
        jobs += 1
        names = JobKeys.of(job)
        keys += int(ledger.client.exists(*names, f"{names.job}:collector")) if dry_run else ledger.forget(job)
    for key, seconds in orphan_keys(ledger, sweep=sweep):
        keys += 1
        if not dry_run:
            ledger.client.expire(key, seconds)
    if not dry_run:
        with suppress(OutOfMemoryError):
            settle(ledger.client)
        worker_registry.forget_gone(ledger.client)
        # Users of users.acl may not look there, and would be refused each night.
        if sweep:
            with suppress(NoPermissionError):
                queue.drop_left_by_old_versions(ledger.client, 2 * settings.visibility_timeout_s)
    if not dry_run and ledger.client.ttl(DEAD_KEY) == -1:
        ledger.client.expire(DEAD_KEY, ledger.ttl_s)
    return {"jobs": jobs, "keys": keys}


def clean_redis_once(ledger: Ledger, settings: Settings) -> dict[str, int]:
    """:func:`clean_redis` on one worker of the fleet; the others get an empty report."""
    with suppress(OutOfMemoryError):  # a full broker needs the pass most; several at once do no harm
        if not locks.take(ledger.client, CLEANUP_LOCK, socket.gethostname(), LOCK_S):
            return {}
    return clean_redis(ledger, settings, sweep=False)


def report_line(report: dict[str, int]) -> str:
    """The report as one readable line, this machine's name first."""
    parts = [f"{report['files']} temporary files ({report['bytes'] / 1e6:.1f} MB)"]
    if "jobs" in report:
        parts.append(f"{report['jobs']} old jobs, {report['keys']} keys")
    return f"{socket.gethostname()}: removed " + ", ".join(parts)


def remember_report(ledger: Ledger, report: dict[str, int]) -> None:
    """Keep this machine's last report where ``ocr-worker cleanup --report`` and a dashboard find it."""
    entry = json.dumps({**report, "at": round(ledger.now())})
    with suppress(OutOfMemoryError):  # the broker is full: no report, but the cleanup itself was done
        ledger.client.hset(REPORTS_KEY, socket.gethostname(), entry)
    ledger.client.expire(REPORTS_KEY, 30 * 24 * 3600)


def last_reports(client: redis.Redis) -> dict[str, dict[str, int]]:
    """Each machine's last cleanup report: host -> files, bytes, at (Unix time), and jobs, keys where it did Redis.

    What a stranger wrote there, and is no report, or one of a time to come, is left out.
    """
    reports, latest = {}, redis_now(client) + AHEAD_S
    for host, entry in read_hash(client, REPORTS_KEY).items():
        with suppress(*UNREADABLE):
            report = msgspec.json.decode(entry, type=dict[str, Count])
            if {"files", "bytes", "at"} <= report.keys() and report["at"] <= latest:
                reports[host.decode("utf-8", "backslashreplace")] = report
    return reports
