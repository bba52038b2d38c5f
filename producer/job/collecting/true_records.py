"""Which records of a results stream are true: whoever has a worker's password may write some ahead of their pages."""

from __future__ import annotations

from collections.abc import Sequence

from producer.job.results_file import Line
from worker.ledger.ledger import Ledger

_LETTERS = {"ok": b"o", "failed": b"f"}


def true_records(ledger: Ledger, job: str, read: Sequence[tuple[bytes, Line]]) -> set[bytes]:
    """The entries that their pages got when they were done.

    A page's record, its state and the record's entry are written in one step (FINISH). A record of a page that is not
    done was written by somebody else, or the page was made unfed since, and is done again.

    Args:
        ledger: of the broker.
        job: its name.
        read: entries of the stream that were read before, and what they hold.
    """
    if not read:
        return set()
    states = ledger.done_as(job, ((line.index, entry) for entry, line in read))
    return {entry for (entry, line), state in zip(read, states, strict=True) if state == _LETTERS.get(line.status)}
