"""Failed pages of a job on a broker, to be done again."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from producer.job.results_file import decode_line
from worker.ledger.ledger import Ledger, chunked
from worker.redis_keys import JobKeys


def retry_on_broker(ledger: Ledger, job: str) -> int:
    """Failed pages of a job become unfed and their uncollected records go, in one step. Returns how many pages."""
    entries = {}
    for entry, fields in ledger.client.xrange(JobKeys.of(job).results):
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, KeyError):  # the collector puts such entries aside
            line = decode_line(fields[b"record"])
            if line.status != "ok":
                entries[line.index] = entry
    return sum(ledger.retry(job, indices, entries) for indices in chunked(ledger.pages_in_state(job, b"f")))
