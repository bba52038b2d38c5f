"""A ledger that waits while Redis takes no writes."""

from __future__ import annotations

import time
from typing import Any

import redis

from worker.broker.connection import connect, logger, takes_no_writes, why_waiting
from worker.ledger.ledger import Ledger
from worker.settings import Settings

# How long a worker holds on to a page that the broker does not take, and how often it tries. Less than the time a page
# has between its soft and its hard limit (settings.HARD_LIMIT_MARGIN_S).
WRITE_WAIT_S = 10.0


WRITE_LOOK_S = 1.0


class PatientLedger(Ledger):
    """A worker's ledger: while the broker takes no writes, its steps wait.

    A script that is refused has changed nothing. Still refused after ``WRITE_WAIT_S``: redis.ResponseError.
    """

    def _call(self, script: str, job: str, *args: Any) -> Any:
        give_up = time.monotonic() + WRITE_WAIT_S
        waiting = False
        while True:
            try:
                return super()._call(script, job, *args)
            except redis.ResponseError as error:
                if not takes_no_writes(error) or time.monotonic() > give_up:
                    raise
                if not waiting:
                    waiting = True
                    logger.warning(why_waiting(error))
                time.sleep(WRITE_LOOK_S)


def open_ledger(settings: Settings, client: redis.Redis | None = None, *, patient: bool = False) -> Ledger:
    """The ledger on the broker of these settings.

    Args:
        settings: where the broker is.
        client: a connection to it; None makes one.
        patient: a worker's ledger, which outlives a restart of the broker and waits while it takes no writes.

    Raises:
        BrokerUnreachable: see :func:`connect`.
    """
    return (PatientLedger if patient else Ledger)(
        client or connect(settings, patient=patient),
        ttl_s=max(1, int(settings.result_ttl_h * 3600)),
        max_attempts=settings.max_attempts,
        lease_s=settings.lease_s,
    )
