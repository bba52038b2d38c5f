"""More pages for a job that is there already."""

from __future__ import annotations

from worker.ledger.ledger import Ledger
from worker.redis_keys import JobKeys


def extend_job(ledger: Ledger, job: str, total: int) -> int:
    """Make it a job of ``total`` pages, if it has fewer; a finished one is open again. Returns how many are new.

    The new pages are unfed: Redis fills their state bytes with zeros.
    """
    status = ledger.status(job)
    if status is None or status.total >= total:
        return 0
    keys = JobKeys.of(job)
    with ledger.client.pipeline(transaction=True) as pipe:
        pipe.setrange(keys.state, total - 1, b"\0")
        pipe.hset(keys.job, mapping={"total": total, "state": "open"})
        pipe.hdel(keys.job, "finished_ms")
        for key in keys:
            pipe.expire(key, ledger.ttl_s)
        pipe.execute()
    return total - status.total


def keep_alive(ledger: Ledger, job: str) -> None:
    """Its keys live on as if something had been done: for a job that waits for new pages."""
    with ledger.client.pipeline(transaction=False) as pipe:
        for key in JobKeys.of(job):
            pipe.expire(key, ledger.ttl_s)
        pipe.execute()
