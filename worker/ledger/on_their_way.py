"""What a job's keys say of its pages that are queued or running. What no page of ours can have is dropped.

Whoever has a worker's password may put fields of any name there: a job's share of the window is counted by them, and
Redis refuses what is asked of a page 2^63. So each look leaves only what names a page.
"""

from __future__ import annotations

import redis

from worker.broker.clock import redis_now
from worker.broker.whole import read_hash, read_scores
from worker.redis_keys import JobKeys, number_in, page_in

MOST_LEASE_MS = 3_660_000
"""The longest that OCRFLEET_LEASE_S may be, and a minute; `is_held` in script_start.py."""


def tasks(client: redis.Redis, job: str) -> dict[int, int]:
    """Pages with a task -> when they were (last) sent, ms; 0 where that is no time, so that they are looked at.

    Raises:
        redis.RedisError: no answer.
    """
    key = JobKeys.of(job).tasks
    found = read_hash(client, key)
    if strange := [raw for raw in found if page_in(raw) is None]:
        client.hdel(key, *strange)
    return {
        page: number_in(entry.split(b" ", 1)[0]) or 0
        for raw, entry in found.items()
        if (page := page_in(raw)) is not None
    }


def holders(client: redis.Redis, job: str) -> dict[int, str]:
    """Running pages -> the main process that runs each, where it said so; raises as :func:`tasks`."""
    key = JobKeys.of(job).holders
    found = read_hash(client, key)
    if strange := [raw for raw in found if page_in(raw.removesuffix(b":call")) is None]:
        client.hdel(key, *strange)
    return {
        page: holder.decode(errors="replace") for raw, holder in found.items() if (page := page_in(raw)) is not None
    }


def lapsed(client: redis.Redis, job: str) -> list[int]:
    """Pages whose lease has ended, or ends later than any of ours; raises as :func:`tasks`."""
    key, now_ms = JobKeys.of(job).leases, redis_now(client) * 1000
    found = read_scores(client, key)
    if strange := [raw for raw in found if page_in(raw) is None]:
        client.zrem(key, *strange)
    return [
        page
        for raw, ends in found.items()
        if not now_ms < ends <= now_ms + MOST_LEASE_MS and (page := page_in(raw)) is not None
    ]


def leased(client: redis.Redis, job: str) -> set[int]:
    """Pages with a lease, live or lapsed; not those that end later than any of ours. Raises as :func:`tasks`."""
    latest = redis_now(client) * 1000 + MOST_LEASE_MS
    found = read_scores(client, JobKeys.of(job).leases)
    return {page for raw, ends in found.items() if ends <= latest and (page := page_in(raw)) is not None}
