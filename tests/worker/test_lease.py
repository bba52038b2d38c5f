"""A long page keeps its lease, and only for as long as it runs. Against a real server."""

from __future__ import annotations

import threading
import time

import pytest

from worker.lease import LeaseKeeper
from worker.ledger import Ledger
from worker.messages import ImageTask
from worker.redis_keys import JobKeys
from worker.storage.spool import MachineFault

pytestmark = pytest.mark.serial  # a beat that comes 0.4 s late is a lost lease

JOB = "job-1"
LEASE_S = 0.4
BEAT_S = 0.05


@pytest.fixture
def job(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    ledger.lease_s = LEASE_S
    ledger.create(JOB, 2, {})
    ledger.feed([ImageTask(job=JOB, index=index, image="a", uri="file:///a") for index in range(2)])
    return ledger


def lease_end_ms(ledger: Ledger, index: int) -> float | None:
    return ledger.client.zscore(JobKeys.of(JOB).leases, index)


def test_beats_while_held_with_one_thread_for_all_pages(job: Ledger) -> None:
    keeper = LeaseKeeper(job, BEAT_S)
    before = threading.active_count()
    for index in (0, 1):
        job.begin(JOB, index, redelivered=False)
        with keeper.hold(JOB, index):
            time.sleep(2 * LEASE_S)
            assert job.lapsed(JOB) == [], "the page still runs"
            assert threading.active_count() == before + 1
        end = lease_end_ms(job, index)
        time.sleep(4 * BEAT_S)
        assert lease_end_ms(job, index) == end, "nobody holds it any more"
        job.finish(JOB, index, ok=True, record=b"{}")
    assert lease_end_ms(job, 1) is None


def test_a_page_that_was_given_away_is_not_taken_back(job: Ledger) -> None:
    job.begin(JOB, 0, redelivered=False)
    with LeaseKeeper(job, BEAT_S).hold(JOB, 0):
        assert job.finish(JOB, 0, ok=True, record=b"by another worker")
        time.sleep(4 * BEAT_S)
    assert lease_end_ms(job, 0) is None


def test_an_error_ends_it_too(job: Ledger) -> None:
    keeper = LeaseKeeper(job, BEAT_S)
    job.begin(JOB, 0, redelivered=False)
    with pytest.raises(MemoryError), keeper.hold(JOB, 0):
        raise MemoryError
    end = lease_end_ms(job, 0)
    time.sleep(4 * BEAT_S)
    assert lease_end_ms(job, 0) == end


def test_a_thread_that_could_not_start_is_started_for_the_next_page(
    job: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = LeaseKeeper(job, BEAT_S)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(MachineFault, match="ulimit -u"), keeper.hold(JOB, 0):
            pass
    job.begin(JOB, 1, redelivered=False)
    with keeper.hold(JOB, 1):
        time.sleep(2 * LEASE_S)
        assert job.lapsed(JOB) == []
