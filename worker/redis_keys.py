"""The names of our keys in Redis."""

from __future__ import annotations

import re
import time
from typing import NamedTuple

JOBS_KEY = "ocrfleet:jobs"
COUNTERS_KEY = "ocrfleet:counters"
DEAD_KEY = "ocrfleet:dead"
QUARANTINE_KEY = "ocrfleet:quarantine"
WORKERS_KEY = "ocrfleet:workers"
IMAGES_KEY = "ocrfleet:workers:images"
REPORTS_KEY = "ocrfleet:cleanup-reports"

MOST_PAGES_OF_A_JOB = 50_000_000
"""Five times the largest job that was run. A collector takes a byte of memory a page, Redis too."""

OWNER_PREFIX = 47
"""Characters of a job's name before its epoch of 16: together a name has 64 at most."""

_WITH_EPOCH = re.compile(r"(.+)\.([0-9a-f]{16})\Z")
_DIGITS = 15
"""Of any number of ours: a time in milliseconds has 13. Redis takes none above 2^63, of 19 digits, as an offset: one
such field ended each `collect` of its job. In Lua and in `status` the bound is 1e15 too."""


class JobKeys(NamedTuple):
    """The Redis keys of one job, in the order the scripts expect."""

    job: str
    state: str
    tasks: str
    attempts: str
    losses: str
    leases: str
    results: str
    blobs: str
    holders: str
    manifest: str
    entries: str

    @staticmethod
    def of(job: str) -> JobKeys:
        """The keys of this job."""
        base = f"ocrfleet:job:{job}"
        return JobKeys(base, *(f"{base}:{part}" for part in JobKeys._fields[1:]))


def now_ms() -> int:
    """This machine's time in milliseconds. What machines compare is told by Redis' clock (broker/clock.py)."""
    return int(time.time() * 1000)


def number_in(raw: bytes) -> int | None:
    """A whole number as the ledger writes it; None: it is none, so somebody else wrote it.

    Whoever has a worker's password may put anything there. `int` raises for a word, and for 5,000 digits: one such
    field ended every worker of a fleet, and every job of a page.
    """
    return int(raw) if len(raw) <= _DIGITS and raw.isdigit() else None


def page_in(raw: bytes) -> int | None:
    """A page's number, as the ledger names it in fields and members; None: it is none that a job of ours can have."""
    page = number_in(raw)
    return page if page is not None and page < MOST_PAGES_OF_A_JOB and raw == b"%d" % page else None


def blob_owner(job: str, epoch: str) -> str:
    """Whose a page's bytes are: a name as a job's, which workers of versions before find them by, too.

    By the epoch a producer that slept writes over no bytes of another's job that has the name by now.
    """
    return f"{job[:OWNER_PREFIX]}.{epoch}" if epoch else job


def split_owner(owner: str) -> tuple[str, str]:
    """The job, of a long name its beginning, and its epoch, "" where the owner has none."""
    named = _WITH_EPOCH.match(owner)
    return (named[1], named[2]) if named else (owner, "")


def blob_key(job: str, index: int, epoch: str = "") -> str:
    """The Redis key of a page's bytes. The ledger's scripts spell it the same way."""
    return f"ocrfleet:blob:{blob_owner(job, epoch)}:{index}"
