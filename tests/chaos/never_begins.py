"""A child that takes a page and hangs before it tells the ledger, as one does that must first be swapped in.

A worker of a test loads this module: ``celery -A worker.app worker -I tests.chaos.never_begins``.
"""

from __future__ import annotations

import time

from worker.ledger import Ledger
from worker.ledger.answers import Begin


def _never(self: Ledger, job: str, index: int, *, redelivered: bool, epoch: str = "") -> Begin:
    time.sleep(3600)
    raise AssertionError


Ledger.begin = _never  # type: ignore[method-assign]
