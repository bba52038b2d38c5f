"""What a worker's main process does for the fleet when it starts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from worker.app import app_for
from worker.broker import queue
from worker.celery_ext import self_care
from worker.ledger import Ledger, reconcile
from worker.messages import ImageTask
from worker.settings import Settings


def test_a_start_looks_at_once(ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page was lost between the queue and its worker. Before, the first look came 10 s after the start, and it left
    alone what was sent in the 10 s before that."""
    monkeypatch.setattr(self_care, "main_ledger", lambda: ledger)
    monkeypatch.setattr(reconcile, "SOON_GRACE_S", -1.0)
    ledger.create("job", 2, {})
    ledger.feed([ImageTask(job="job", index=index, image="a", uri="file:///a") for index in range(2)])
    ledger.begin("job", 1, redelivered=False)
    ledger.expire_leases("job")  # the broker was away for longer: its worker may live, and renews it in a moment
    later: list[tuple[float, Callable[[], None]]] = []
    assert reconcile.take_turn(ledger), "another worker has looked just now"
    care = self_care.SelfCare(app_for(settings), lambda *call: later.append(call))
    care.begin()
    [(seconds, confirm)] = later
    assert seconds == reconcile.GAP_S
    confirm()
    assert queue.queued_ids(ledger.client) == {"job:0"}
    care.begin()
    assert len(later) == 1, "of all that start at once, one looks"
