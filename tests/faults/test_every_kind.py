"""The short form of ``make faults``: every kind of fault once, one after the other, over two jobs."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.faults.catalogue import KINDS
from tests.faults.rig import JOB, Rig
from tests.faults.trial import Trial, is_complete, judge, start, until

pytestmark = pytest.mark.chaos
COUNT = 280  # with 200 a quiet machine had done all before the last kind
# Prepared before the start: they are in both jobs.
PREPARED = ("poison", "broken image")
HALVES = [[kind for kind in KINDS if kind not in PREPARED][half::2] for half in (0, 1)]


@pytest.mark.parametrize("kinds", HALVES, ids=["even", "odd"])
def test_a_job_that_meets_every_kind_of_fault(rig: Rig, kinds: list[str], tmp_path: Path) -> None:
    trial = Trial(rig, random.Random(7), COUNT, rig.images(COUNT))
    poisoned: set[int] = set()
    for kind in PREPARED:
        KINDS[kind].prepare(trial)  # type: ignore[attr-defined]
        poisoned |= trial.poisoned
    trial.poisoned = poisoned
    trial.worker_flags = ["-I", "tests.chaos.poison,tests.faults.slow"]
    began = time.monotonic()
    start(trial)
    until(trial, lambda: rig.done() >= 4)
    met = []
    for kind in kinds:
        if is_complete(trial):
            break
        KINDS[kind](trial)
        met.append(kind)
        trial.same_mains = None  # they may die of the next kind
        on_disk = sum(rig.indices().values())
        times = until(trial, lambda before=on_disk: sum(rig.indices().values()) >= before + 3 or is_complete(trial))
        assert not times.hung, f"nothing moves after {kind}: {rig.server.client.hgetall(f'ocrfleet:job:{JOB}')}"
    outcome = judge("all", 7, trial, until(trial, lambda: is_complete(trial)), seconds=time.monotonic() - began)
    assert outcome.good, outcome
    assert met == kinds, "the job was over too soon"
