"""What the ledger answers."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Verdict = Literal["run", "done", "cancelled", "unknown", "busy", "exhausted", "stale"]


class Begin(NamedTuple):
    """The ledger's answer to a worker that holds a message."""

    verdict: Verdict
    attempts: int
    losses: tuple[str, ...]


_CAUSE = re.compile("[A-Za-z]{1,32}")
MOST_LOSSES = 16


def losses_in(noted: bytes) -> tuple[str, ...]:
    """Why the tries of a page were lost, oldest first, as far as what stands there says it.

    A stranger's byte that is no UTF-8 raised at each try, also at the last, which is to write the failed record: the
    page never had one, and its job waited for ever. Causes of a version to come are words, too.
    """
    causes = noted[-MOST_LOSSES * 33 :].decode("ascii", "replace").split(",")[-MOST_LOSSES:]
    return tuple(cause for cause in causes if _CAUSE.fullmatch(cause))


class JobStatus(NamedTuple):
    """A job's counts at one moment."""

    job: str
    state: str
    total: int
    ok: int
    failed: int
    in_flight: int
    uncollected: int
    created_s: float
    progress_s: float
    finished_s: float | None
    extra: dict[str, str]
    epoch: str = ""
    fed_s: float = 0.0
    now_s: float = 0.0
    kept_s: float = 0.0

    @property
    def done(self) -> int:
        """Pages that have their record."""
        return self.ok + self.failed

    @property
    def finished(self) -> bool:
        """Whether every page has its record."""
        return self.done >= self.total

    @property
    def unfed(self) -> int:
        """Pages that are neither done nor on their way: a producer still has to feed them."""
        return max(0, self.total - self.done - self.in_flight)
